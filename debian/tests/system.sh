# Bare systems for bare-install, foreign-install and booted-unit, which source this file. They set suite, architecture,
# packages (the directory with the .debs) and root (where the system will lie).

mirror=http://deb.debian.org/debian
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kylin-gguf/roots
suites=()
arguments=()

# Read the options that all three have, and check that COUNT arguments follow them: read_command_line COUNT "$@"
read_command_line() {
    local count=$1 name
    name=$(basename "$0")
    shift
    while [[ ${1:-} == --* ]]; do
        case $1 in
        --suite) suites+=("$2") ;;
        --mirror) mirror=$2 ;;
        --cache) cache=$2 ;;
        *) echo "$name: unknown option $1" >&2 && exit 2 ;;
        esac
        shift 2
    done
    arguments=("$@")
    (($# == count)) || { sed -n '4p' "$0" >&2; exit 2; }
    ((EUID == 0)) || { echo "$name: making a system needs root" >&2; exit 1; }
}

OURS=(kylin-gguf-engine kylin-gguf-engine-rpc kylin-gguf-convert kylin-gguf-model-smollm2)
# What a file of ours has in its path, wherever it lies.
NAMES='kylin[-_]gguf|kylin_convert|GgufEngine1|SmolLM2'

say() { printf '== %5d s  %s %s: %s\n' "$SECONDS" "$suite" "$architecture" "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }

# Run in the system, which sees no network but loopback, and no process but its own. ENVIRONMENT is added to its environment.
ENVIRONMENT=()
inside() {
    # shellcheck disable=SC2016 # the inner shell expands them
    unshare --net --mount --ipc --pid --fork --kill-child --mount-proc="$root/proc" sh -ec '
        ip link set lo up
        mount -t tmpfs -o mode=1777 shm "$0/dev/shm"
        mount -t sysfs -o ro sysfs "$0/sys"
        exec chroot "$0" "$@"' "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        HOME=/root DEBIAN_FRONTEND=noninteractive "${ENVIRONMENT[@]}" "$@"
}

as_user() { inside runuser -u tester -- env HOME=/home/tester "$@"; }

make_root() {
    local kept=$cache/$suite-$architecture
    local command=(debootstrap "--arch=$architecture" --variant=minbase)
    if [[ ! -e $kept.tar ]]; then
        say "debootstrap from $mirror"
        mkdir -p "$cache"
        "${command[@]}" --make-tarball="$kept-debs.tgz" "$suite" "$root" "$mirror" > /dev/null
        rm -rf "$root"
        "${command[@]}" --unpack-tarball="$kept-debs.tgz" "$suite" "$root" "$mirror" > "$kept.log"
        tar -cf "$kept.tar.new" -C "$root" .
        mv "$kept.tar.new" "$kept.tar"
        rm "$kept-debs.tgz"
    else
        mkdir -p "$root"
        tar -xf "$kept.tar" -C "$root"
    fi
}

index() { (cd "$root/packages" && dpkg-scanpackages --multiversion . > Packages 2> /dev/null); }

# The one step with a network. What was downloaded before is taken from the cache.
download() {
    local kept=$cache/$suite-$architecture-debs deb
    mkdir -p "$root/packages" "$kept"
    for deb in "$packages"/*_{"$architecture",all}.deb; do
        [[ $deb == *-dbgsym_* ]] || cp "$deb" "$root/packages"
    done
    cp -n "$kept"/*.deb "$root/packages" 2> /dev/null || true
    index
    echo "deb $mirror $suite main" > "$root/etc/apt/sources.list"
    echo "deb [trusted=yes] file:/packages ./" > "$root/etc/apt/sources.list.d/ours.list"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    chroot "$root" apt-get -qq update
    chroot "$root" apt-get -qq install --yes --download-only -o APT::Sandbox::User=root \
        -o Dir::Cache::archives=/packages "${OURS[@]}" > /dev/null
    rm -rf "$root/packages/partial" "$root/packages/lock"
    find "$root/packages" -name '*.deb' ! -name 'kylin-gguf-*' -exec cp -n {} "$kept" \;
    rm "$root/etc/apt/sources.list" "$root/etc/resolv.conf"
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
    refresh
}

refresh() {
    index
    inside apt-get -qq update
}

install_ours() { inside apt-get -qq install --yes kylin-gguf-engine kylin-gguf-engine-rpc > "$root/packages/apt.log" 2>&1 ||
    { tail -20 "$root/packages/apt.log"; fail "apt install"; }; }

version_of() { dpkg-query --root="$root" -W -f '${Version}' "$1"; }

# Every path of the system but for those that change by themselves: apt's and dpkg's state, logs, the user's home.
paths() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./packages -o -path ./home -o -path ./var/cache \
        -o -path ./var/log -o -path ./var/lib/apt -o -path ./tmp \) -prune -o -print | LC_ALL=C sort)
}

# dpkg itself forgets our names when nothing of ours is left.
check_no_traces() {
    local left
    left=$(paths | grep -E "$NAMES" || true)
    [[ -z $left ]] || { echo "$left"; fail "purge left files"; }
    if dpkg-query --root="$root" -W 'kylin-gguf-*' 2> /dev/null | grep -q .; then fail "dpkg knows our packages"; fi
}

purge() { inside apt-get -qq purge --yes 'kylin-gguf-*' > /dev/null 2>&1 || fail "apt purge"; }
