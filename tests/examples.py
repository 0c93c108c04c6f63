"""Prints the examples of manual pages and of the README as a shell script per page, for tests/manual.sh.

examples.py FILE: each example becomes one line, a kind and its text, the text with \\n for line ends:
  run TEXT         commands, without their prompts
  shown TEXT       what the commands before print, as far as the example shows it
  background TEXT  commands of which the last one goes on
  until TEXT       commands that go on until Ctrl-C, each
  file NAME TEXT   a configuration that later commands use
  config TEXT      a configuration
  another TEXT     commands for another server than the one that the page has started
  skip REASON TEXT commands or a configuration that the test leaves out

In a manual page an example is a literal display. Lines that begin with "$ " are commands, a backslash at the end goes on
in the next line, and what begins like a section of the configuration is one. A comment before the display says what it
is otherwise: `in the background`, `until Ctrl-C`, `another server`, `file: NAME`, `not run: REASON`. In the README an example is a block
of sh or yaml; there the comment is one of HTML.
"""
import re
import sys

SECTIONS = ('version:', 'address:', 'admin:', 'tls:', 'keystore:', 'policy:')


def displays(path):
    """Yields (comment, lines) for each example."""
    comment, lines = None, None
    for line in open(path, encoding='utf-8').read().split('\n'):
        if path.endswith('.md'):
            line = line[3:] if line.startswith('   ') else line
            starts, ends = re.match(r'```(sh|yaml)$', line), line == '```'
            said = re.match(r'<!-- (.*) -->$', line)
        else:
            starts, ends = line.startswith('.Bd -literal'), line == '.Ed'
            said = re.match(r'\.\\" (.*)$', line)
        if lines is not None and ends:
            yield comment, lines
            comment, lines = None, None
        elif lines is not None:
            lines.append(line if path.endswith('.md') else plain(line))
        elif starts:
            lines = []
        elif said:
            comment = said[1]


def plain(line):
    """The text of a line of a literal display."""
    line = line.removeprefix('.Li ').removeprefix('\\&')
    return line.replace('\\(ti', '~').replace('\\-', '-').replace('\\&', '').replace('\\(dq', '"').replace('\\e', '\\')


def commands(lines, has_prompts):
    """The commands among lines, and what they print."""
    called, shown = [], []
    goes_on = False
    for line in lines:
        if goes_on or not has_prompts or line.startswith(('$ ', '# ')):
            called.append(line[2:] if has_prompts and not goes_on else line)
            goes_on = line.endswith('\\')
        elif line.strip() and not line.endswith('...'):
            shown.append(line)
    return called, shown


def main(path):
    def tell(kind, lines):
        print(kind, '\n'.join(lines).replace('\\', '\\\\').replace('\n', '\\n'))

    kinds = {'in the background': 'background', 'until Ctrl-C': 'until', 'another server': 'another'}
    for comment, lines in displays(path):
        has_prompts = any(line.startswith(('$ ', '# ')) for line in lines)
        is_config = not has_prompts and lines[0].startswith(SECTIONS)
        is_shell = has_prompts or (path.endswith('.md') and not is_config)
        called, shown = commands(lines, has_prompts) if is_shell else (lines, [])
        if comment and comment.startswith('not run: '):
            tell('skip ' + comment.removeprefix('not run: ').replace(' ', '_'), called)
        elif comment and comment.startswith('file: '):
            tell('file ' + comment.removeprefix('file: '), lines)
        elif is_config:
            tell('config', lines)
        elif is_shell:
            tell(kinds.get(comment, 'run'), called)
            if shown:
                tell('shown', shown)


main(sys.argv[1])
