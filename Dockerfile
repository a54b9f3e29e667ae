# syntax=docker/dockerfile:1
# Two images: `riposte` holds the server alone, `riposte-tools` also what actions call. Build them with `make image`.
# Give the images below by digest (NAME@sha256:…) where a build must be the same for ever.
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ENV GOCACHE=/go/cache
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/go/cache \
    GOOS=${TARGETOS} GOARCH=${TARGETARCH} make build VERSION=${VERSION:?} BIN=/out/usr/bin/riposte
# The root of the image: who runs, whom to trust, and where to write.
RUN mkdir -p /out/etc/ssl/certs /out/var/lib/riposte /out/tmp \
    && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
    && echo 'riposte:x:65532:65532:riposte:/var/lib/riposte:/sbin/nologin' >/out/etc/passwd \
    && echo 'riposte:x:65532:' >/out/etc/group \
    && chown 65532:65532 /out/var/lib/riposte && chmod 0700 /out/var/lib/riposte && chmod 1777 /out/tmp

# What Debian has not, or only of old: from its modules, which are checked against the checksum database.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS tools
ENV GOCACHE=/go/cache
COPY .ci/tools /usr/local/bin/build-tools
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/go/cache \
    GOOS=${TARGETOS} GOARCH=${TARGETARCH} build-tools /out helm kubectl tofu

FROM ${DEBIAN_IMAGE} AS riposte-tools
# Debian's stable release keeps these versions for its lifetime, with security fixes.
RUN apt-get update \
    && apt-get install --no-install-recommends -y git=1:2.39.* openssh-client=1:9.2* ansible-core=2.14.* ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/ldconfig/aux-cache
COPY --from=tools /out/ /usr/local/bin/
RUN groupadd --gid 65532 riposte && useradd --uid 65532 --gid 65532 --home-dir /var/lib/riposte --no-create-home riposte
COPY --from=build /out/usr/bin/riposte /usr/bin/riposte
COPY --from=build --chown=65532:65532 /out/var/lib/riposte /var/lib/riposte
ENV RIPOSTE_DATA=/var/lib/riposte
USER 65532:65532
EXPOSE 8080 8081 8082
VOLUME /var/lib/riposte
ENTRYPOINT ["/usr/bin/riposte"]
CMD ["serve"]

# The last one is built where no target is named.
FROM scratch AS riposte
COPY --from=build /out/ /
ENV RIPOSTE_DATA=/var/lib/riposte PATH=/usr/bin
USER 65532:65532
EXPOSE 8080 8081 8082
VOLUME /var/lib/riposte
ENTRYPOINT ["/usr/bin/riposte"]
CMD ["serve"]
