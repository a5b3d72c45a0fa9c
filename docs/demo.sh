#!/usr/bin/env bash
# What the picture in the README is a recording of. CONTRIBUTING.md says how it is made.
#
# It plays on a fresh `./dev up --clusters 3`, whose variables it needs: eval "$(./dev env)"
set -euo pipefail
# shellcheck disable=SC2016 # what is played is expanded when it is
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"

play() {
    printf '\e[1;32m$\e[0m '
    sleep 0.5
    printf '%s' "$1"
    sleep 0.6
    printf '\n'
    eval "$1" || true # a failed rollout is part of the play
    printf '\n'
    sleep "$2"
}

{
    git clone "$GIT_URL" apps
    cd apps
    git checkout -B main
    git config user.name you
    git config user.email you@example.org
    mkdir shop
    cat >shop/web.yaml <<'YAML'
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  progressDeadlineSeconds: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: registry.example.org/web:1}]
YAML
    git add .
    git commit -m 'shop: Serve the web'
    git push -u origin main
    bellwether repo add apps "$GIT_URL"
} >/dev/null 2>&1
cd "$room"
cat >shop.yaml <<'YAML'
apiVersion: bellwether.dev/v1
kind: Target
metadata: {name: shop}
spec:
  repo: apps
  path: shop
  namespace: shop
  rollout:
    waves:
      - name: canary
        clusters: {matchLabels: {ring: canary}}
        soak: 3s
      - name: rest
    onFailure: rollback
YAML

play 'bellwether cluster list' 1
play 'bellwether apply -f shop.yaml && bellwether rollout watch shop' 1.5
sed -i 's|containers:|nodeSelector: {disk: missing}\n      containers:|' apps/shop/web.yaml
git -C apps commit -qam 'shop: Ask for nodes that no cluster has'
play 'git -C apps push -q && bellwether target refresh shop && bellwether rollout watch shop' 2.5
play 'bellwether status' 1.5
play 'kubectl --kubeconfig $KUBECONFIG_2 -n shop scale deployment web --replicas 9' 0.4
play 'bellwether drift list' 3
