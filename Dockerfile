# The image of Clarion: an interpreter, the pinned requirements, our package. Build it in the root of
# the checkout: docker build -t clarion:0.1.0 .
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/clarion
COPY requirements-build.lock requirements.lock ./
RUN /build/bin/pip install --require-hashes -r requirements-build.lock
RUN /build/bin/pip --python /opt/clarion/bin/python install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .
RUN /build/bin/pip --python /opt/clarion/bin/python install --no-deps --no-index /wheels/*.whl

FROM python:3.11-slim
COPY --from=build /opt/clarion /opt/clarion
ENV PATH=/opt/clarion/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65534:65534
ENTRYPOINT ["clarion"]
CMD ["--help"]
