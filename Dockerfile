# The testbed and its programs: one static executable under many names, and nothing else.
#
#   docker build -t testbed .                                          from source
#   scripts/build-static && docker build --target host -t testbed .    what was built outside
#
# `host` stands first because the builder of old Docker runs all stages up to the one that is asked for. It also runs `host`
# where nothing was built outside: then the pattern finds nothing, and the stage has the licences alone.

FROM scratch AS host
COPY LICENSE-APACHE LICENSE-MIT target/imag[e] /
WORKDIR /data
ENTRYPOINT ["/bin/testbed", "init"]
CMD ["testbed", "--help"]

FROM rust:1-slim-bookworm AS builder
WORKDIR /src
COPY . .
RUN scripts/build-static

FROM scratch AS image
COPY LICENSE-APACHE LICENSE-MIT /
COPY --from=builder /src/target/image/ /
WORKDIR /data
ENTRYPOINT ["/bin/testbed", "init"]
CMD ["testbed", "--help"]
