# The service without torch: `docker build -t weighbridge .`, or `make image`.
# Run it with a token and a volume: see deploy/compose.yaml and docs/operating.md.

FROM python:3.11-slim-trixie AS build
WORKDIR /src
ENV PIP_CONSTRAINT=/src/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY weighbridge weighbridge
COPY registry registry
COPY storage storage
COPY api api
RUN python -m pip wheel --no-deps --wheel-dir /wheels .
RUN python -m venv /opt/weighbridge \
    && set -- /wheels/*.whl \
    && /opt/weighbridge/bin/pip install "$1[server,s3,minio,postgres,oidc]"
RUN mkdir /data

FROM python:3.11-slim-trixie
COPY --from=build /opt/weighbridge /opt/weighbridge
COPY --from=build --chown=10001:10001 /data /data
# The wheel keeps the server's packages inside `weighbridge` (docs/decisions/0001); here they have the place to themselves.
ENV PATH=/opt/weighbridge/bin:$PATH \
    PYTHONPATH=/opt/weighbridge/lib/python3.11/site-packages/weighbridge/_server \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WEIGHBRIDGE_HOST=0.0.0.0 \
    WEIGHBRIDGE_PORT=8000 \
    WEIGHBRIDGE_DATA=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# `-P`: a folder in the volume that is called `api` is not ours.
ENTRYPOINT ["python", "-P", "-m", "api"]
CMD ["serve"]
