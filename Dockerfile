FROM python:3.11-slim AS build
# With "traces" the image has the packages of docs/traces.md too.
ARG lock=service
COPY requirements/service.lock requirements/traces.lock /
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r /${lock}.lock

FROM python:3.11-slim
# Nothing is written but to /tmp and /dev/shm, so the root file system can be read-only.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FLASK_SKIP_DOTENV=1
COPY --from=build /venv /venv
WORKDIR /app
COPY config.py wsgi.py gunicorn.conf.py ./
COPY settings settings
COPY migrations migrations
COPY tokenservice tokenservice
# Behind all that takes long to build: the revision is another each time.
ARG version=0.1.0
ARG revision=unknown
ARG source=unknown
LABEL org.opencontainers.image.title="Token Service" \
      org.opencontainers.image.description="Single-use tokens over REST, honoured at most once" \
      org.opencontainers.image.version=$version \
      org.opencontainers.image.revision=$revision \
      org.opencontainers.image.source=$source \
      org.opencontainers.image.licenses=MIT
USER 10001:10001
EXPOSE 8000
# Alive, and not ready: orchestrators replace what is unhealthy, and a new container would not
# bring a lost database back.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "-c", "\
from http.client import HTTPConnection; \
service = HTTPConnection('127.0.0.1', 8000, timeout=3); \
service.request('GET', '/healthz'); \
raise SystemExit(service.getresponse().status != 200)"]
CMD ["gunicorn", "--bind", "0.0.0.0:8000"]
