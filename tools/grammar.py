"""Have jsonschema, which nbformat and altair import, do without a grammar of web addresses.

It tests a format (IRI) that neither notebooks nor charts have, and takes two seconds to build in
each process that imports it.  jsonschema leaves the test out where the package is not installed.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)
