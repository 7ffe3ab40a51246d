"""`without.py NAMES -- CMD`: runs CMD without these variables; of JAVA_TOOL_OPTIONS only the trust store goes."""

import os
import sys

names, command = sys.argv[1].split(","), sys.argv[3:]
for name in names:
    if name == "JAVA_TOOL_OPTIONS":
        os.environ[name] = " ".join(word for word in os.environ[name].split() if "trustStore" not in word)
    else:
        os.environ.pop(name, None)
os.execvp(command[0], command)
