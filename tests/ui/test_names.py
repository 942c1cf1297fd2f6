from mirrorgui.ui.names import Names, short_name


def test_a_path_is_known_by_its_last_part():
    assert short_name("/vm/images/disk.qcow2") == "disk.qcow2"
    assert short_name("disk.img") == "disk.img"
    assert short_name("/dev/sdb") == "sdb"
    assert short_name("/") == "/"


def test_a_uri_is_known_by_its_export_or_its_place():
    assert short_name("nbd://host:10809/disk%201") == "disk 1"
    assert short_name("nbd://host:10809") == "host:10809"
    assert short_name("nbd+unix:///?socket=/run/vm.sock") == "vm.sock"


def test_json_is_known_by_the_file_inside():
    assert short_name('json:{"driver":"raw","file":{"filename":"/vm/a.img"}}') == "a.img"
    assert short_name('json:{"driver":"nbd","export":"x"}') == "x"
    assert short_name('json:{"driver":"null-co"}') == "null-co"
    assert short_name("json:{broken") == "json:{broken"
    assert short_name("json:[1]") == "json:[1]"


def test_long_names_are_cut_in_the_middle():
    name = short_name("/vm/" + "a" * 60 + ".img")
    assert len(name) <= 48
    assert name.endswith(".img")


def test_equal_names_get_their_folders():
    names = Names.of("/vm/disk.img", "/backup/disk.img")
    assert (names.source, names.target) == ("vm/disk.img", "backup/disk.img")
    assert Names.of("/disk.img", "/disk.img").source == "/disk.img"
