# The image holds the static binary, the CA bundle and a configuration that listens on every address of the container
# behind a token made at start. The servers come from the command line:
#
#   docker run --rm -p 127.0.0.1:7300:7300 fluentd-perf:VERSION \
#     serve --config /etc/fluentd-perf/fluentd-perf.yaml --upstream docs=https://docs.example.com/mcp
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN make build VERSION="$VERSION" && mkdir -m 0700 /state /run-dir

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/bin/fluentd-perf /fluentd-perf
COPY deploy/docker/fluentd-perf.yaml /etc/fluentd-perf/fluentd-perf.yaml
# A volume on /var/lib/fluentd-perf keeps what is cached over a restart. The verbs find the daemon by the other one:
# docker exec CONTAINER /fluentd-perf cache-stats
COPY --from=build --chown=65532:65532 /state /var/lib/fluentd-perf
COPY --from=build --chown=65532:65532 /run-dir /run/fluentd-perf
ENV STATE_DIRECTORY=/var/lib/fluentd-perf RUNTIME_DIRECTORY=/run/fluentd-perf
USER 65532:65532
EXPOSE 7300
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD ["/fluentd-perf", "healthcheck"]
ENTRYPOINT ["/fluentd-perf"]
CMD ["serve", "--config", "/etc/fluentd-perf/fluentd-perf.yaml"]
