"""The qcow2 format, versions 2 and 3: own code from the public specification."""
