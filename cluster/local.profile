# What every Ray of cluster/local.yaml starts with; read by the shell, not run.
# ~/.lightsans/environment holds variables of yours, one NAME=VALUE a line: those of storage, at least.
export PATH="/srv/lightsans/.venv/bin:$PATH"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.lightsans/token/auth_token"
export RAY_USAGE_STATS_ENABLED=0
# Ray 2.60's second autoscaler counts the head as one of the machines of provider.type local, and leaves
# one worker out; `ray up` exports 1 before this file is read.
export RAY_enable_autoscaler_v2=0
if [ -f "$HOME/.lightsans/environment" ]; then
  set -a
  . "$HOME/.lightsans/environment"
  set +a
fi
