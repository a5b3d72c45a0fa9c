-- Places at the API's port for every network that a token is used from, and not for the first of each minute alone.
-- api_tokens.last_network is read no more; it goes when no hub writes it.

create table token_networks (
    token_id uuid not null references api_tokens on delete cascade,
    network text not null,
    used_at timestamptz not null,
    primary key (token_id, network)
);
comment on table token_networks is 'Where tokens are used from; the latest few of each.';
comment on column token_networks.token_id is 'Of which token.';
comment on column token_networks.network is 'An IPv4 address, or a /64 of IPv6.';
comment on column token_networks.used_at is 'To the minute.';

insert into token_networks (token_id, network, used_at)
select token_id, last_network, last_used_at from api_tokens where last_network is not null and last_used_at is not null;
