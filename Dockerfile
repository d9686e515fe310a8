# syntax=docker/dockerfile:1
# Builds Sluice in one stage; the other is nothing but the programs, the libraries that they load and the demo model.
#
#   docker build -t sluice .
#   docker run --rm -p 50051:50051 -p 9090:9090 sluice
#   docker run --rm -p 50051:50051 -v /path/to/checkpoint:/models/mine:ro sluice --model=/models/mine
#
# docs/operations.md says more: how to get the same packages again next year (BASE and the mirrors), models baked in, health
# checks, what the image holds.
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BASE} AS build
ARG APT_MIRROR=
ARG APT_SECURITY_MIRROR=
ARG JOBS=
WORKDIR /src
COPY deploy/image/use_mirror deploy/image/use_mirror
COPY scripts/setup scripts/setup
RUN deploy/image/use_mirror "${APT_MIRROR}" "${APT_SECURITY_MIRROR}" && scripts/setup build
COPY . .
RUN --mount=type=cache,target=/root/.cache/ccache \
    cmake --preset release -DSLUICE_TESTS=OFF \
 && cmake --build --preset release ${JOBS:+-j${JOBS}} --target sluice-server sluice sluice-bench
RUN deploy/image/make_root /image build/release/bin/sluice-server build/release/bin/sluice build/release/bin/sluice-bench

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="A gRPC server for Mixture-of-Experts language models on CPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /image /
COPY models/demo /usr/local/share/sluice/models/demo
ENV PATH=/usr/local/bin \
    SLUICE_LISTEN=0.0.0.0:50051 \
    SLUICE_METRICS_LISTEN=0.0.0.0:9090
EXPOSE 50051 9090
USER 65532:65532
STOPSIGNAL SIGTERM
# The server lives from the moment its port is open, also while it loads a model: for readiness, ask for
# --service=sluice.v1.Generation.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["sluice", "health", "--timeout=4"]
ENTRYPOINT ["sluice-server"]
