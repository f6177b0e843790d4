# bash completion for skerry-hub; tests/unit/packaging compares it with the program's own arguments.
_skerry_hub() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words
	COMPREPLY=()
	case $before in
	--data) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
	--kubeconfig | --status-socket | --socket | --kubelet-cert | --kubelet-key | --kubelet-client-ca | --device-ca-cert | --device-ca-key | --broker-ca | --broker-cert | --broker-key | --broker-streams-cert | --broker-streams-key | --revoked-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
	--output) mapfile -t COMPREPLY < <(compgen -W "text json" -- "$word"); return ;;
	--listen | --broker | --address | --mqtt-port | --enroll-port | --kubelet-listen | --kubelet-address | --kubelet-ports | --replica | --lease-seconds | --metrics-listen | --device-broker | --device-cert-days | --enroll-listen | --enroll-address | --enroll-url | --node | --ttl) return ;;
	esac
	if ((COMP_CWORD == 1)); then
		words="api run up join token adopt revoke status ui --help"
	else
		case $command in
		api) words="--help --data --listen --insecure" ;;
		run) words="--help --kubeconfig --broker --insecure --status-socket --kubelet-cert --kubelet-key --kubelet-server-tls-bootstrap --kubelet-client-ca --kubelet-listen --kubelet-address --kubelet-ports --replica --lease-seconds --metrics-listen --broker-ca --broker-cert --broker-key --broker-streams-cert --broker-streams-key --device-ca-cert --device-ca-key --device-cert-days --device-broker --enroll-listen --enroll-address --enroll-url --revoked-file" ;;
		up) words="--help --data --listen --address --mqtt-port --enroll-port" ;;
		join) words="--help --kubeconfig --broker --output --no-taint" ;;
		token)
			case $COMP_CWORD:${COMP_WORDS[2]} in
			2:*) words="create list delete --help" ;;
			*:create) words="--help --node --ttl --no-taint --device-ca-cert --enroll-url --kubeconfig --output" ;;
			*:list | *:delete) words="--help --kubeconfig --output" ;;
			*) return ;;
			esac
			;;
		adopt) words="--help --kubeconfig --output --all" ;;
		revoke) words="--help --kubeconfig --output" ;;
		status) words="--help --socket --output" ;;
		ui) words="--help --kubeconfig --socket --listen --insecure" ;;
		*) return ;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _skerry_hub skerry-hub
