#!/bin/sh
# Makes the Git repository that the hello example pulls, in the directory given (data/hello-repository), once.
set -eu
dir=${1:-data/hello-repository}
[ -d "$dir/.git" ] && exit 0
mkdir -p "$dir"
git -C "$dir" init --quiet --initial-branch=main
echo "Hello from a pulled repository." > "$dir/greeting.txt"
git -C "$dir" add greeting.txt
git -C "$dir" -c user.name=example -c user.email=example@example.com commit --quiet --message "Say hello"
