# What packaging/run and packaging/test share; sourced by them, from the root of the source tree.
#
#   MIRRORGUI_PYTHON   the Python to make the environments with, instead of the newest one found

# The wheels of Qt do not carry these: without the first no window opens (on no screen either).
qt_libraries=(
    libegl1 libgl1 libglib2.0-0 libdbus-1-3 libfontconfig1 libfreetype6
    libx11-xcb1 libxkbcommon0 libxkbcommon-x11-0
    libxcb-cursor0 libxcb-glx0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
    libxcb-render-util0 libxcb-render0 libxcb-shape0 libxcb-shm0 libxcb-sync1 libxcb-util1
    libxcb-xfixes0 libxcb-xkb1
)
qt_comforts=(libwayland-client0 libwayland-cursor0 libwayland-egl1 fonts-dejavu-core)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# --- Debian packages -----------------------------------------------------------------------------

# Prints those of the named packages that are not installed. Ubuntu and newer Debian renamed some
# libraries to NAMEt64; either name will do.
missing_packages() {
    local installed name
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
    for name in "$@"; do
        grep -qxE "${name//./\\.}(t64)?" <<<"$installed" || printf '%s\n' "$name"
    done
}

refresh_package_lists() {
    say "reading the package lists"
    apt-get -qq -o DPkg::Lock::Timeout=300 update || say "the package lists could not be read anew"
}

have_fresh_package_lists() {
    [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -7 -print -quit)" ]
}

install_packages() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install "$@" >&2
}

on_debian() { command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; }

# Installs what is missing of the named packages. Without the right to, it prints the line that
# does, and fails.
get_packages() {
    local missing
    if ! on_debian; then
        say "not a Debian or Ubuntu machine: the counterparts of these packages must be there: $*"
        return 0
    fi
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        say "packages are missing; this line installs them:"
        printf 'sudo apt-get update && sudo apt-get install -y --no-install-recommends %s\n' \
            "${missing[*]}" >&2
        return 1
    fi
    have_fresh_package_lists || refresh_package_lists
    say "installing ${missing[*]}"
    install_packages "${missing[@]}" && return
    # Lists that are a few days old name versions that the archive no longer has.
    refresh_package_lists
    install_packages "${missing[@]}"
}

need_packages() { get_packages "$@" || die "install the packages, then try again"; }

want_packages() { get_packages "$@" || say "going on without them"; }

# --- A kernel for the tests' virtual machine -------------------------------------------------------

# Puts the distribution's smallest kernel and its modules for a virtual disk into .vm-kernel.
# Nothing is installed, so this needs no rights.
need_kernel() {
    [ ! -s .vm-kernel/vmlinuz ] || return 0
    on_debian || die "put a kernel with virtio_blk and ext4 at .vm-kernel/vmlinuz"
    have_fresh_package_lists || [ "$(id -u)" -ne 0 ] || refresh_package_lists
    unpack_kernel && return
    # Lists that are a few days old name versions that the archive no longer has.
    [ "$(id -u)" -ne 0 ] || refresh_package_lists
    unpack_kernel || die "no kernel for the tests' virtual machine"
}

unpack_kernel() {
    local name package scratch status=1
    for name in linux-image-cloud-amd64 linux-image-virtual; do
        package=$(apt-cache depends "$name" 2>/dev/null |
            sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
        [ -z "$package" ] || break
    done
    [ -n "$package" ] || return
    say "unpacking $package into .vm-kernel"
    scratch=$(mktemp -d) || return
    if (cd "$scratch" && apt-get -qq download "$package") 2>"$scratch/log" &&
        dpkg -x "$scratch"/*.deb "$scratch/kernel"; then
        mkdir -p .vm-kernel
        find "$scratch/kernel" -name 'virtio*.ko*' -exec cp {} .vm-kernel/ \;
        cp "$scratch"/kernel/boot/vmlinuz-* .vm-kernel/vmlinuz && status=0
    else
        cat "$scratch/log" >&2
    fi
    rm -rf "$scratch"
    return "$status"
}

# --- Python --------------------------------------------------------------------------------------

python_fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

python_can_make_environments() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# Prints the newest fitting Python, one that can make environments before one that cannot.
find_python() {
    local name found=
    for name in ${MIRRORGUI_PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
        command -v "$name" >/dev/null && python_fits "$name" || continue
        if python_can_make_environments "$name"; then
            command -v "$name"
            return
        fi
        found=${found:-$(command -v "$name")}
    done
    [ -n "$found" ] && printf '%s\n' "$found"
}

# Prints the newest Python package of the distribution that would do.
packaged_python() {
    local name
    [ "$(id -u)" -ne 0 ] || have_fresh_package_lists || refresh_package_lists
    for name in python3.14 python3.13 python3.12 python3.11; do
        if apt-cache show "$name-venv" >/dev/null 2>&1; then
            printf '%s\n' "$name"
            return
        fi
    done
}

# Sets `python` to one that can make environments, installing what is missing for that.
choose_python() {
    python=$(find_python)
    if [ -n "$python" ] && python_can_make_environments "$python"; then
        return
    fi
    [ -z "${MIRRORGUI_PYTHON:-}" ] || die "MIRRORGUI_PYTHON=$MIRRORGUI_PYTHON is not a Python 3.11" \
        "to 3.14 with the modules venv and ensurepip"
    command -v apt-cache >/dev/null || die "Python 3.11 or newer is needed, with venv and ensurepip"
    local name
    if [ -n "$python" ]; then
        name=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    else
        name=$(packaged_python)
        [ -n "$name" ] || die "Python 3.11 or newer is needed, and this distribution has none"
    fi
    need_packages "$name" "$name-venv"
    python=$(find_python)
    [ -n "$python" ] && python_can_make_environments "$python" ||
        die "${python:-Python} cannot make virtual environments"
}

# make_environment DIR: makes it, or makes it anew when it was left half made, or its Python is gone
# or does not fit.
make_environment() {
    if [ -x "$1/bin/pip" ] && python_fits "$1/bin/python"; then
        return
    fi
    choose_python
    say "making $1 with $python ($("$python" -V))"
    rm -rf "$1"
    "$python" -m venv "$1" || die "$1 could not be made"
}

# What an environment was filled from: when this changes, it is filled again.
stamp_of() {
    local environment=$1
    shift
    { printf '%s\n' "$PWD" "$@" && "$environment/bin/python" -V && cat pyproject.toml; } | sha256sum
}

is_filled() { [ "$(cat "$1/filled-for-$2" 2>/dev/null)" = "$(stamp_of "$1" "$2")" ]; }

mark_filled() { stamp_of "$1" "$2" >"$1/filled-for-$2"; }

# install_into ENVIRONMENT ARGUMENT...: the pip of .venv serves every environment.
install_into() {
    local environment=$1
    shift
    .venv/bin/python -m pip --python "$environment/bin/python" -qq --disable-pip-version-check \
        install "$@" || die "pip could not install into $environment"
}

# Makes .venv with the application in it; with the word dev, with the test and lint tools too.
need_environment() {
    make_environment .venv
    is_filled .venv "${1:-run}" && return
    say "installing the application into .venv (the first time takes a minute)"
    install_into .venv 'pip>=25.1' # older ones know no dependency groups
    install_into .venv --editable '.[gui]' ${1:+--group "$1"}
    mark_filled .venv run
    [ -z "${1:-}" ] || mark_filled .venv "$1"
}
