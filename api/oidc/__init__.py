"""Single sign-on by OpenID Connect: JWTs of jobs, people's browsers. The only place that knows Authlib and joserfc."""
