# zdce for the CPU, without PyTorch; docs/docker.md has the commands.

FROM python:3.13-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# Without build isolation, so that PyTorch is not downloaded: the core needs none of its headers, and its operators are not built.
RUN pip install --no-cache-dir 'setuptools>=77' \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.13-slim-bookworm
# What is installed beside zdce; "serve,formats" also reads HEIC and raw files.
ARG EXTRAS=serve
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --constraint /constraints.txt "$(echo /wheels/*.whl)[$EXTRAS]" \
    && python -c "import zdce._core" \
    && useradd --uid 10001 --create-home zdce
USER 10001
# Pictures are mounted here.
WORKDIR /pictures
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/api/info', timeout=4)"]
ENTRYPOINT ["zdce"]
CMD ["serve", "--host", "0.0.0.0"]
