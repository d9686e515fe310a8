# syntax=docker/dockerfile:1
# Builds the server in one stage and puts only the binaries, their run-time libraries and the demo model into the last.
#
#   docker build -t sluice .
#   docker run --rm -p 50051:50051 -p 9090:9090 sluice
#   docker run --rm -p 50051:50051 -v /path/to/checkpoint:/model:ro sluice --model=/model

FROM docker.io/library/debian:trixie-slim AS build
WORKDIR /src
COPY scripts/setup scripts/setup
RUN scripts/setup build
COPY . .
RUN cmake --preset release -DSLUICE_TESTS=OFF \
 && cmake --build --preset release --target sluice-server sluice sluice-bench \
 && strip build/release/bin/sluice*

FROM docker.io/library/debian:trixie-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      libgrpc++1.51t64 libdnnl3.6 libprometheus-cpp-core1.0 libcivetweb1 libspdlog1.15 libonig5 libutf8proc3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/build/release/bin/sluice-server /src/build/release/bin/sluice /src/build/release/bin/sluice-bench /usr/local/bin/
COPY --from=build /src/models/demo /usr/local/share/sluice/models/demo
ENV SLUICE_LISTEN=0.0.0.0:50051 SLUICE_METRICS_LISTEN=0.0.0.0:9090
EXPOSE 50051 9090
USER 65532:65532
HEALTHCHECK --start-period=10m CMD ["sluice", "health"]
ENTRYPOINT ["sluice-server"]
