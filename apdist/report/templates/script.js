"use strict";
{% for name in ("tables", "lightbox", "queries", "map", "parallel", "copy") %}
{% include "scripts/" ~ name ~ ".js" %}

{% endfor %}
