#!/bin/sh
# Makes the cluster's certificate authority and a certificate for every daemon,
# each in a directory (a volume) of its own, and forgets the authority's key.
# Does nothing if they are there.
set -eu
umask 077
cd "$1"
shift
for name in "$@"; do
    [ -s "$name/cert.pem" ] || missing=yes
done
if [ -z "${missing-}" ]; then
    echo "certificates: all there"
    exit 0
fi

ca=$(mktemp -d)
trap 'rm -rf "$ca"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 365 \
    -keyout "$ca/key.pem" -out "$ca/cert.pem" -subj "/CN=shunt compose lab" \
    -addext keyUsage=critical,keyCertSign 2>/dev/null
for name in "$@"; do
    # Who connects to a daemon by a name wants to find it in the certificate;
    # the controller wants a node's own name in the node's.
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc \
        -keyout "$ca/$name.key" -out "$ca/$name.csr" -subj "/CN=$name" 2>/dev/null
    printf 'subjectAltName=DNS:%s,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=digitalSignature\n' "$name" >"$ca/$name.ext"
    openssl x509 -req -in "$ca/$name.csr" -CA "$ca/cert.pem" -CAkey "$ca/key.pem" -days 365 \
        -extfile "$ca/$name.ext" -out "$ca/$name.pem" 2>/dev/null
    cp "$ca/$name.key" "$name/key.pem"
    cp "$ca/cert.pem" "$name/ca.pem"
    cp "$ca/$name.pem" "$name/cert.pem"
    chmod 644 "$name/ca.pem" "$name/cert.pem"
    chmod 755 "$name"
done
# The controller does not run as root.
chown shunt controller/key.pem
echo "certificates: made for $*"
