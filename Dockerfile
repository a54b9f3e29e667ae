# syntax=docker/dockerfile:1
# Two images: `riposte` holds the server alone, `riposte-tools` also what actions call. Build them with `make image`.
# Give the images below by digest (NAME@sha256:…) where a build must be the same for ever.
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG TOFU_IMAGE=ghcr.io/opentofu/opentofu:1.12.6-minimal
ARG KUBECTL_IMAGE=registry.k8s.io/kubectl:v1.37.2

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOOS=${TARGETOS} GOARCH=${TARGETARCH} make build VERSION=${VERSION:?} BIN=/out/usr/bin/riposte
# The root of the image: who runs, whom to trust, and where to write.
RUN mkdir -p /out/etc/ssl/certs /out/var/lib/riposte /out/tmp \
    && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
    && echo 'riposte:x:65532:65532:riposte:/var/lib/riposte:/sbin/nologin' >/out/etc/passwd \
    && echo 'riposte:x:65532:' >/out/etc/group \
    && chown 65532:65532 /out/var/lib/riposte && chmod 0700 /out/var/lib/riposte && chmod 1777 /out/tmp

# Helm publishes no image; its module is checked against the checksum database.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS helm
ARG HELM_VERSION=v4.3.1 TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} GOBIN= \
    go install -trimpath -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=${HELM_VERSION}" "helm.sh/helm/v4/cmd/helm@${HELM_VERSION}" \
    && mkdir -p /out && find /go/bin -name helm -exec cp {} /out/helm \;

FROM ${TOFU_IMAGE} AS tofu
FROM ${KUBECTL_IMAGE} AS kubectl

FROM ${DEBIAN_IMAGE} AS riposte-tools
# Debian's stable release keeps these versions for its lifetime, with security fixes.
RUN apt-get update \
    && apt-get install --no-install-recommends -y git=1:2.39.* openssh-client=1:9.2* ansible-core=2.14.* ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/ldconfig/aux-cache
COPY --from=tofu /usr/local/bin/tofu /usr/local/bin/tofu
COPY --from=kubectl /bin/kubectl /usr/local/bin/kubectl
COPY --from=helm /out/helm /usr/local/bin/helm
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
