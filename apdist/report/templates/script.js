"use strict";
{% for name in ("pointer", "tables", "lightbox", "queries", "map", "parallel", "copy") %}
{% include "scripts/" ~ name ~ ".js" %}

{% endfor %}
