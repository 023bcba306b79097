# The service without its models: mount the folder of versions at /srv/model.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
# serve: OpenVINO alone; tensorflow: the reference engine too, in an image more than three times as large.
ARG ENGINE=serve
COPY requirements/${ENGINE}.txt /tmp/lock.txt
# The environment has no pip of its own: what serves requests cannot install anything. TensorFlow's C++ headers
# are 430 MB that only a compiler could use.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps --only-binary :all: -r /tmp/lock.txt \
    && rm -rf /opt/venv/lib/python3*/site-packages/tensorflow/include

# The engine for processors with AVX2 alone; elsewhere (Arm) this says that it is left out, and OpenVINO serves.
FROM ${BASE} AS kernel
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY app/engines/winograd /srv/app/engines/winograd
RUN python /srv/app/engines/winograd/build.py || true

FROM ${BASE}
LABEL org.opencontainers.image.title="image-classification-service" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=dependencies /opt/venv /opt/venv
# The container's own network is the only one that this address opens; what is published is decided outside.
# With a fixed threshold glibc gives a large picture's memory back: 37 MiB instead of 276 after four of 25 megapixels.
ENV CLASSIFIER_HOST=0.0.0.0 \
    MALLOC_MMAP_THRESHOLD_=8388608 \
    PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /srv
COPY app app
COPY --from=kernel /srv/app/engines/winograd app/engines/winograd
# Whoever serves may write nothing there, and would compile it at every start: 0.2 s of one and a half.
RUN python -m compileall -q app
# A number, so that Kubernetes can prove with runAsNonRoot that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
CMD ["python", "-m", "app"]
