#!/bin/sh
# The agent wire of `benchai serve` with curl alone: a thread, a run that is waited for, a run that streams.
#
#     sh examples/client_curl.sh [WORKFLOW] [TASK]
#
# The server's address stands in BENCHAI_URL (default: http://127.0.0.1:8085), its key, if it wants one, in BENCHAI_KEY.
# TASK goes into JSON as it is: no quotes, no backslashes.
set -eu
url=${BENCHAI_URL:-http://127.0.0.1:8085}
workflow=${1:-react}
task=${2:-What is 48 * 52?}

call() { # METHOD PATH [BODY]
    curl --fail-with-body --silent --show-error --no-buffer --request "$1" "$url$2" \
        --header "Authorization: Bearer ${BENCHAI_KEY:-none}" \
        --header 'Content-Type: application/json' ${3:+--data "$3"}
}

created=$(call POST /threads '{"metadata": {"of": "client_curl"}}')
thread=$(printf %s "$created" | sed 's/.*"thread_id": *"\([^"]*\)".*/\1/')
run="{\"assistant_id\": \"$workflow\", \"input\": {\"messages\": [{\"role\": \"user\", \"content\": \"$task\"}]}"

echo "thread $thread"
call POST "/threads/$thread/runs/wait" "$run}"
echo
call POST "/threads/$thread/runs/stream" "$run, \"stream_mode\": [\"updates\"]}"
call GET "/threads/$thread/state"
echo
call DELETE "/threads/$thread"
