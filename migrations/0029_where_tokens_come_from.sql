-- Places at the API's port for those who have tokens, whatever strangers hold, and after a restart too.

alter table api_tokens add column last_network text;

comment on column api_tokens.last_network is
    'Where it was last used from: an IPv4 address, or a /64 of IPv6; null: not since this column is there.';

comment on column render_tries.stored_bytes is
    'Compressed bytes of objects and manifests that its renders added, within a day from then on.';
