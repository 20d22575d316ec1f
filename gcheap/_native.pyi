# The module is generated from the C headers; cffi's objects carry no static types.
from typing import Any

ffi: Any
lib: Any
