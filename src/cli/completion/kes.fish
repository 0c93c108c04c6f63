# fish completion for kes(1). The program itself says what may stand at the cursor; where it says nothing, files may.
function __kes_complete
    set -lx COMP_LINE (commandline -cp | string collect)
    set -lx KES_COMPLETION described
    set -l found (kes 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c kes -f -a '(__kes_complete)'
