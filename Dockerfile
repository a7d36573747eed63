# The service, without torch. Build: docker build -t twotower .
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
RUN python -m venv /opt/twotower \
    && /opt/twotower/bin/pip install --no-cache-dir --constraint constraints.txt '.[serve]'

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin twotower \
    && install -d -o twotower -g twotower /var/lib/twotower
COPY --from=build /opt/twotower /opt/twotower
# Inside a container the address is the container's own; what is published decides who reaches it.
# The service does not start on it without keys.
ENV PATH=/opt/twotower/bin:$PATH \
    OMP_NUM_THREADS=1 \
    PYTHONUNBUFFERED=1 \
    TWOTOWER_HOST=0.0.0.0 \
    TWOTOWER_BUNDLE=/srv/bundles/current \
    TWOTOWER_KEYS_FILE=/run/secrets/twotower_keys \
    TWOTOWER_STATE_URL=sqlite:////var/lib/twotower/state.sqlite3
USER twotower
VOLUME /var/lib/twotower
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=2)"]
ENTRYPOINT ["twotower"]
CMD ["serve"]
