#!/bin/sh
# Makes the files of this folder: a CA, and what a server named server.test and a client show. For tests alone.
# They are valid from 2020 to 2120, whatever a machine believes the date to be.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/ca.conf" <<CONF
[ca]
default_ca = tests
[tests]
new_certs_dir = $work
database = $work/index
serial = $work/serial
default_md = sha256
policy = names
copy_extensions = copy
[names]
commonName = supplied
CONF
: > "$work/index"
echo 01 > "$work/serial"
request() {  # NAME SUBJECT EXTENSION
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" -addext "$3" \
        -keyout "$work/$1.key" -out "$work/$1.csr"
}
sign() {  # NAME, and how
    name=$1
    shift
    openssl ca -batch -notext -config "$work/ca.conf" -startdate 20200101000000Z -enddate 21200101000000Z \
        -keyfile "$work/ca.key" -in "$work/$name.csr" -out "$name.pem" "$@"
}
request ca "Headrace tests" "basicConstraints=critical,CA:TRUE"
sign ca -selfsign
for name in server client; do
    request "$name" "$name.test" "subjectAltName=DNS:$name.test"
    sign "$name" -cert ca.pem
    cp "$work/$name.key" "$name.key"
done
