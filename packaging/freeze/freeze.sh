# What packaging/bundle and packaging/deb share; sourced by them after packaging/setup.sh, from the
# root of the source tree. `started_in` is the folder that the command was given in.
#
#   SOURCE_DATE_EPOCH   the time that every file of a package carries (default: the last commit's)
#   MIRRORGUI_FROZEN    a folder that freeze has made before, to be used instead of a new one

build_tools=(binutils chrpath zstd)

# The same inputs have to give the same bytes, whoever builds, where and when.
use_reproducible_settings() {
    umask 022
    export LC_ALL=C.UTF-8 TZ=UTC PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1
    export QT_QPA_PLATFORM=offscreen
    unset PYTHONPATH PYTHONHOME PYTHONOPTIMIZE
    if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
        SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) ||
            SOURCE_DATE_EPOCH=$(date -d "$(release_date)" +%s)
    fi
    export SOURCE_DATE_EPOCH
}

release_date() {
    sed -n 's/.*<release version="[^"]*" date="\([^"]*\)".*/\1/p' resources/*.metainfo.xml | head -n 1
}

# output_folder [DIR]: makes it (default: dist of the source tree), and prints its full path.
output_folder() {
    if [ -n "$1" ]; then
        cd "$started_in" || return
    fi
    mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd || die "no folder ${1:-dist}"
}

version_of_source() { sed -n 's/^__version__ = "\(.*\)"$/\1/p' mirrorgui/__init__.py; }

# PyInstaller takes Python's shared library along, which some distributions package apart.
need_shared_python() {
    local name
    name=$(.venv-build/bin/python -c '
import ctypes.util, pathlib, sys, sysconfig
name = sysconfig.get_config_var("INSTSONAME") or ""
places = [sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LIBPL")]
found = any(pathlib.Path(place or "", name).exists() for place in places) and ".so" in name
print("" if found or ctypes.util.find_library("python%d.%d" % sys.version_info[:2])
      else "libpython%d.%d" % sys.version_info[:2])')
    [ -z "$name" ] || need_packages "$name"
}

# Makes .venv-build: PyInstaller, and the very versions of the libraries that constraints.txt names.
need_build_environment() {
    local constraints=packaging/freeze/constraints.txt name wanted unpinned
    need_packages "${qt_libraries[@]}" "${build_tools[@]}"
    make_environment .venv-build
    need_shared_python
    name=$(sha256sum <"$constraints" | cut -c 1-16)
    is_filled .venv-build "$name" && return
    say "installing the build tools into .venv-build (the first time takes a minute)"
    mapfile -t wanted < <(.venv-build/bin/python packaging/requirements.py --window)
    [ ${#wanted[@]} -gt 0 ] || die "pyproject.toml names no requirements"
    .venv-build/bin/python -m pip -qq --disable-pip-version-check install \
        --constraint "$constraints" pip pyinstaller hatchling "${wanted[@]}" ||
        die "pip could not install into .venv-build"
    unpinned=$(.venv-build/bin/python -m pip --disable-pip-version-check freeze --all |
        grep -vixFf "$constraints")
    [ -z "$unpinned" ] || die "$constraints does not name: $unpinned"
    mark_filled .venv-build "$name"
}

# freeze DIR: makes DIR/mirrorgui, the one folder with the application and all it runs on.
freeze() {
    if [ -n "${MIRRORGUI_FROZEN:-}" ]; then
        mkdir -p "$1" && cp -a "$MIRRORGUI_FROZEN" "$1/mirrorgui" || die "no $MIRRORGUI_FROZEN"
        return
    fi
    need_build_environment
    say "freezing the application into one folder"
    PYINSTALLER_CONFIG_DIR=$1/settings .venv-build/bin/python -m PyInstaller --log-level ERROR \
        --noconfirm --distpath "$1" --workpath "$1/work" packaging/freeze/mirrorgui.spec ||
        die "PyInstaller failed"
    rm -rf "$1/work" "$1/settings"
    shrink "$1/mirrorgui/_internal"
    .venv-build/bin/python packaging/freeze/licences.py "$1/mirrorgui" "$(version_of_source)" \
        >"$1/LICENCES" || die "the licences could not be collected"
    mv "$1/LICENCES" "$1/mirrorgui/LICENCES"
}

# Debugging symbols, places of the machine that Python was built on, and data that nothing asks for.
shrink() {
    local libraries
    # What lies in numpy.libs has been changed after it was linked, and would not load any more.
    mapfile -t libraries < <(find "$1" -name '*.so*' -type f -not -path '*/numpy.libs/*' | sort)
    strip --strip-unneeded "${libraries[@]}" || die "strip failed"
    find "$1" \( -path '*/lib-dynload/*' -o -name 'libpython*' \) -type f |
        xargs -r chrpath --delete >/dev/null || die "chrpath failed"
    .venv-build/bin/python packaging/freeze/small_icu.py "$1"/PySide6/Qt/lib/libicudata.so.* ||
        die "ICU's data could not be made smaller"
    LD_LIBRARY_PATH=$1/numpy.libs .venv-build/bin/python -c '
import ctypes, sys
for path in sys.argv[1:]:
    ctypes.CDLL(path)' "$1"/numpy/*/*.so "$1"/bitarray/*.so || die "strip has damaged a library"
}

# share PREFIX: what a desktop and a shell look for below a share folder.
share() {
    local id=io.github.mirrorgui.mirrorgui size
    install -D -m 644 "resources/$id.desktop" "$1/applications/$id.desktop" &&
        install -D -m 644 "resources/$id.metainfo.xml" "$1/metainfo/$id.metainfo.xml" &&
        install -D -m 644 "resources/$id.mime.xml" "$1/mime/packages/$id.xml" &&
        mkdir -p "$1/icons" && cp -r resources/icons/hicolor "$1/icons/" &&
        ${PYTHON_FOR_TEXTS:-.venv-build/bin/python} packaging/command "$1" ||
        die "$1 could not be filled"
}

# settle DIR: the same times and modes, whatever made the files.
settle() {
    find "$1" -type d -exec chmod 755 {} + -o -type f -exec chmod 644 {} +
    find "$1" -type f \( -path '*/mirrorgui/mirrorgui' -o -path "$1/mirrorgui" -o -name AppRun \) \
        -exec chmod 755 {} +
    find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}

megabytes() { du -sm --apparent-size "$1" | cut -f 1; }
