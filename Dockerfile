# The image holds the static binary and the certificates of the public authorities; no shell, no
# package manager. Base images are pinned by tag; whoever needs more pins their digests.

# Compiled on the builder's own platform, for the target's.
FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -tags otel -ldflags "-s -w -X main.version=$VERSION" -o /out/tokenreeve .
RUN mkdir -m 0700 /out/state && mkdir -m 1777 /out/tmp

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="tokenreeve" \
      org.opencontainers.image.description="An MCP server that administers API tokens at Atlassian Cloud, LaunchDarkly and Mailtrap" \
      org.opencontainers.image.source="https://github.com/tokenreeve/tokenreeve" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tokenreeve /usr/bin/tokenreeve
# Only what keeps no state elsewhere writes here.
COPY --from=build --chown=65532:65532 --chmod=0700 /out/state /var/lib/tokenreeve
COPY --from=build --chmod=1777 /out/tmp /tmp
# There is no home: the file is /etc/tokenreeve/config.json, where there is one, and the state
# directory /var/lib/tokenreeve.
ENV XDG_CONFIG_HOME=/etc XDG_STATE_HOME=/var/lib
USER 65532:65532
ENTRYPOINT ["/usr/bin/tokenreeve"]
