"""Completion for bash, zsh and fish."""

from command.parsed import Command, Option, commands, window


def bash() -> str:
    """Return the completion of bash; it needs nothing of the package bash-completion."""
    known = commands()
    names = " ".join(command.name for command in known)
    values = "".join(_bash_values(command) for command in (window(), *known))
    options = "".join(
        f"    {command.name or chr(39) * 2}) options='{_flags(command)}' ;;\n"
        for command in (window(), *known)
    )
    return f"""\
# Completion of mirrorgui for bash.

_mirrorgui_files() {{
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$1")
}}

_mirrorgui() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
    local command='' options=''
    COMPREPLY=()
    if ((COMP_CWORD > 1)) && [[ " {names} " == *" ${{COMP_WORDS[1]}} "* ]]; then
        command=${{COMP_WORDS[1]}}
    fi
    case $command:$before in
{values}    esac
    case $command in
{options}    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
        return
    fi
    _mirrorgui_files "$current"
    if ((COMP_CWORD == 1)); then
        mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -W '{names}' -- "$current")
    fi
}}

complete -F _mirrorgui mirrorgui
"""


def _flags(command: Command) -> str:
    return " ".join(flag for option in command.options for flag in option.flags)


def _bash_values(command: Command) -> str:
    lines = ""
    for option in command.options:
        if not option.metavar:
            continue
        pattern = " | ".join(f"{command.name}:{flag}" for flag in option.flags)
        if option.choices:
            words = " ".join(option.choices)
            action = f"mapfile -t COMPREPLY < <(compgen -W '{words}' -- \"$current\")"
        elif option.is_file:
            action = '_mirrorgui_files "$current"'
        else:
            action = ":"
        lines += f"    {pattern})\n        {action}\n        return\n        ;;\n"
    return lines


def zsh() -> str:
    """Return the completion of zsh, to be called ``_mirrorgui`` in its ``fpath``."""
    known = commands()
    described = "".join(
        f"        {_quoted(f'{command.name}:{command.help}')}\n" for command in known
    )
    cases = "".join(
        f"    {command.name})\n"
        "        shift words\n        ((CURRENT--))\n"
        f"        _arguments {_zsh_arguments(command)}\n        return\n        ;;\n"
        for command in known
    )
    return f"""\
#compdef mirrorgui
# Completion of mirrorgui for zsh.

_mirrorgui() {{
    local -a named=(
{described}    )
    if ((CURRENT == 2)); then
        _describe -t commands command named
    else
        case $words[2] in
{cases}        esac
    fi
    _arguments {_zsh_arguments(window())}
}}

_mirrorgui "$@"
"""


def _zsh_arguments(command: Command) -> str:
    words = [_zsh_option(option) for option in command.options]
    words.append("'*:image:_files'")
    return " \\\n            ".join(words)


def _zsh_option(option: Option) -> str:
    text = option.help.replace("[", r"\[").replace("]", r"\]").replace(":", r"\:")
    value = ""
    if option.metavar:
        action = f"({' '.join(option.choices)})" if option.choices else " "
        name = option.metavar.replace(":", r"\:")
        value = f":{name}:{'_files' if option.is_file else action}"
    if len(option.flags) == 1:
        return _quoted(f"{option.flags[0]}[{text}]{value}")
    alone = " ".join(option.flags)
    each = ",".join(option.flags)
    return f"{_quoted(f'({alone})')}{{{each}}}{_quoted(f'[{text}]{value}')}"


def fish() -> str:
    """Return the completion of fish."""
    known = commands()
    names = " ".join(command.name for command in known)
    first = "test (count (commandline --tokenize --cut-at-cursor)) -eq 1"
    lines = ["# Completion of mirrorgui for fish.", ""]
    lines += [
        f"complete -c mirrorgui -n {_fish_quoted(first)} -a {command.name} "
        f"-d {_fish_quoted(command.help)}"
        for command in known
    ]
    not_named = f"not __fish_seen_subcommand_from {names}"
    lines += [_fish_option(option, not_named) for option in window().options]
    for command in known:
        named = f"__fish_seen_subcommand_from {command.name}"
        lines += [_fish_option(option, named) for option in command.options]
    return "\n".join(lines) + "\n"


def _fish_option(option: Option, condition: str) -> str:
    words = ["complete -c mirrorgui -n", _fish_quoted(condition)]
    for flag in option.flags:
        words += ["-l", flag[2:]] if flag.startswith("--") else ["-s", flag[1:]]
    if option.choices:
        words += ["-x -a", _fish_quoted(" ".join(option.choices))]
    elif option.metavar:
        words.append("-r -F" if option.is_file else "-x")
    if option.help:
        words += ["-d", _fish_quoted(option.help)]
    return " ".join(words)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
