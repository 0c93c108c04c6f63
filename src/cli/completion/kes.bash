# bash completion for kes(1). The program itself says what may stand at the cursor; where it says nothing, files may.
complete -o default -C kes kes
