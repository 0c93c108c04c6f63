#compdef kes
# zsh completion for kes(1). The program itself says what may stand at the cursor; where it says nothing, files may.
_kes() {
	local word text
	local -a found
	while IFS=$'\t' read -r word text; do
		found+=("${word//:/\\:}:$text")
	done < <(COMP_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" KES_COMPLETION=described kes 2>/dev/null)
	if (( $#found )); then
		_describe -V kes found
	else
		_files
	fi
}
# Called by the completion system for the first time, or sourced.
if [[ $funcstack[1] == _kes ]]; then
	_kes "$@"
else
	compdef _kes kes
fi
