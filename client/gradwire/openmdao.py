"""Functions as components of OpenMDAO, with their partial derivatives. Needs ``gradwire[openmdao]``.

import gradwire.openmdao

wing = gradwire.openmdao.Component(client, lambda span, chord: {"area": span * chord}, {"span": (), "chord": ()})
"""

from gradwire._errors import lacking

try:
    from gradwire_imports.to_openmdao import Component
except ModuleNotFoundError as error:
    raise lacking(error, "openmdao") from None

__all__ = ["Component"]
