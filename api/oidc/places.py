"""Where signing in happens: paths of this service, for all that name one."""

SIGN_IN = "/api/v1/sign-in"
CALLBACK = f"{SIGN_IN}/callback"
DONE = f"{SIGN_IN}/done"
TOKEN = f"{SIGN_IN}/token"
SIGN_OUT = "/api/v1/sign-out"
