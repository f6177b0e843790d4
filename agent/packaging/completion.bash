# bash completion for skerry; tests/unit/packaging compares it with the program's own arguments.
_skerry() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words
	COMPREPLY=()
	case $before in
	--config | --token-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
	--output | -o) mapfile -t COMPREPLY < <(compgen -W "text json" -- "$word"); return ;;
	esac
	if ((COMP_CWORD == 1)); then
		words="run status explain get logs exec restart enroll doctor --help --version"
	else
		case $command in
		run) words="--help --config" ;;
		status | explain | get | doctor) words="--help --config --output" ;;
		logs) words="--help --config --container --follow --previous --tail --since --timestamps" ;;
		exec) words="--help --config --container --stdin --tty" ;;
		restart) words="--help --config" ;;
		enroll) words="--help --config --token-file --check --force" ;;
		*) return ;;
		esac
		case $command in
		explain | logs | exec | restart) [[ $word != -* ]] && words=$(_skerry_pods) ;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

# The pods that this device knows, if the journal may be read.
_skerry_pods() {
	skerry status 2>/dev/null | while read -r name _; do
		[[ $name == */* ]] && echo "$name"
	done
}

complete -F _skerry skerry
