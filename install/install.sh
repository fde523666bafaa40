#!/bin/sh
# Installs a Kubernetes control plane on this machine from a release of Sluice: sluice-shim, kube-apiserver and
# kube-controller-manager as services of systemd. Needs openssl and sha256sum, nothing that compiles.
#
#   install.sh                 installs, or replaces the programs of an older release; keys and data stay
#   install.sh uninstall       stops the services and removes the programs; keys and data stay
#   install.sh uninstall --purge   removes keys and data as well
#
# With DESTDIR=/some/folder everything goes below that folder, and no service or user is touched.
set -eu

destdir=${DESTDIR-}
bin=$destdir/usr/local/bin
units=$destdir/etc/systemd/system
config=$destdir/etc/sluice
pki=$config/pki
data=$destdir/var/lib/sluice
programs="sluice-shim kube-apiserver kube-controller-manager"
services="sluice-shim sluice-apiserver sluice-controller-manager"
release=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

# Whether this is the machine that runs the services.
live() {
    [ -z "$destdir" ] && [ -d /run/systemd/system ]
}

platform() {
    case $(uname -m) in
    x86_64) echo linux-amd64 ;;
    aarch64) echo linux-arm64 ;;
    *) fail "there are no programs for $(uname -m)" ;;
    esac
}

# openssl, which is silent unless it fails.
ssl() {
    said=$(openssl "$@" 2>&1) || fail "openssl $1 failed: $said"
}

# A new key and what is made of it: `request NAME SUBJECT OPTIONS`. The machine's own settings of openssl play no part.
request() {
    name=$1
    subject=$2
    shift 2
    ssl req -config "$pki/req.cnf" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$subject" \
        -keyout "$pki/$name.key" "$@"
}

# An authority of its own: `authority NAME SUBJECT`.
authority() {
    request "$1" "/CN=$2" -x509 -days 3650 -out "$pki/$1.crt"
}

# A certificate of an authority: `certificate AUTHORITY NAME SUBJECT USAGE [NAMES]`.
certificate() {
    request "$2" "$3" -out "$pki/$2.csr"
    {
        echo "basicConstraints=critical,CA:FALSE"
        echo "keyUsage=critical,digitalSignature"
        echo "extendedKeyUsage=$4"
        if [ -n "${5-}" ]; then echo "subjectAltName=$5"; fi
    } >"$pki/$2.ext"
    ssl x509 -req -in "$pki/$2.csr" -CA "$pki/$1.crt" -CAkey "$pki/$1.key" -CAcreateserial -days 3650 \
        -extfile "$pki/$2.ext" -out "$pki/$2.crt"
    rm "$pki/$2.csr" "$pki/$2.ext"
}

# The store has an authority of its own: a user of the cluster must not read it behind the API server's back.
make_keys() {
    umask 077
    rm -rf "$pki.new"
    mkdir -p "$pki.new"
    finished=$pki
    pki=$pki.new
    # In here and not as -addext: openssl 1.1.1 adds what its own settings have, and Go refuses an extension twice.
    cat >"$pki/req.cnf" <<END
[req]
distinguished_name = name
x509_extensions = authority
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,digitalSignature
subjectKeyIdentifier = hash
END
    authority ca kubernetes
    authority store-ca sluice-store
    host=$(uname -n)
    certificate ca serving "/CN=kube-apiserver" serverAuth \
        "IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:$host,DNS:kubernetes,DNS:kubernetes.default.svc"
    certificate ca admin "/O=system:masters/CN=admin" clientAuth
    certificate ca controller-manager "/CN=system:kube-controller-manager" clientAuth
    certificate store-ca store-serving "/CN=sluice-shim" serverAuth "IP:127.0.0.1,DNS:localhost"
    certificate store-ca store-client "/CN=kube-apiserver" clientAuth
    ssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$pki/service-account.key"
    ssl pkey -in "$pki/service-account.key" -pubout -out "$pki/service-account.pub"
    rm "$pki/req.cnf"
    # Whole or not at all: a run that was interrupted starts anew.
    mv "$pki" "$finished"
    pki=$finished
}

# A kubeconfig with everything in it: `kubeconfig NAME FILE`.
kubeconfig() {
    umask 077
    cat >"$2.new" <<END
apiVersion: v1
kind: Config
current-context: sluice
clusters:
- name: sluice
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
contexts:
- name: sluice
  context: {cluster: sluice, user: $1}
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$pki/$1.crt")
    client-key-data: $(base64 -w0 "$pki/$1.key")
END
    mv "$2.new" "$2"
}

install_all() {
    command -v openssl >/dev/null || fail "openssl is missing"
    (cd "$release" && sha256sum --check --strict --quiet SHA256SUMS) || fail "the release in $release is damaged"
    from=$release/bin/$(platform)
    [ -d "$from" ] || fail "the release has no programs for $(platform)"
    mkdir -p "$bin" "$units" "$config" "$data"
    chmod 700 "$data"
    [ -d "$pki" ] || make_keys
    for program in $programs; do
        # A program that runs can't be written, but it can be replaced.
        cp "$from/$program" "$bin/.$program.new"
        chmod 755 "$bin/.$program.new"
        mv "$bin/.$program.new" "$bin/$program"
    done
    for service in $services; do
        cp "$release/install/$service.service" "$units/$service.service"
        chmod 644 "$units/$service.service"
    done
    kubeconfig admin "$config/admin.conf"
    kubeconfig controller-manager "$config/controller-manager.conf"
    if live; then
        id sluice >/dev/null 2>&1 || useradd --system --home-dir /var/lib/sluice --shell /usr/sbin/nologin sluice
        chown -R sluice: "$config" "$data"
        systemctl daemon-reload
        # shellcheck disable=SC2086 # a list of words
        systemctl enable --quiet $services
        # shellcheck disable=SC2086
        systemctl restart $services
    fi
    echo "export KUBECONFIG=/etc/sluice/admin.conf"
}

uninstall() {
    if live; then
        # shellcheck disable=SC2086
        systemctl disable --quiet --now $services || true
    fi
    for program in $programs; do rm -f "$bin/$program"; done
    for service in $services; do rm -f "$units/$service.service"; done
    if live; then systemctl daemon-reload; fi
    if [ "${1-}" = --purge ]; then
        rm -rf "$config" "$data"
        if live; then userdel sluice || true; fi
    else
        echo "keys stay in $config and data in $data; uninstall --purge removes them" >&2
    fi
}

if live && [ "$(id -u)" != 0 ]; then fail "only root can install services"; fi
case ${1-install} in
install) install_all ;;
uninstall) uninstall "${2-}" ;;
*) fail "usage: install.sh [install | uninstall [--purge]]" ;;
esac
