"use strict";
{% for name in ("tables", "lightbox", "queries", "map") %}
{% include "scripts/" ~ name ~ ".js" %}

{% endfor %}
