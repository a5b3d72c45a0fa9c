-- What bounds strangers and agents, and tokens that are made and taken back.

alter table certificates
    add column renewed_from text;
comment on column certificates.renewed_from is 'Serial of the certificate that was shown for it; null: a join token was. Of one certificate, one successor is good at a time.';
create index certificates_renewed_from_idx on certificates (renewed_from) where renewed_from is not null;

alter table api_tokens
    add column role text not null default 'admin' constraint api_tokens_role_check check (role in ('admin', 'viewer')),
    add column created_by text,
    add column last_used_at timestamptz;
comment on column api_tokens.role is 'core::api::TokenRole: a viewer only reads.';
comment on column api_tokens.created_by is 'The token that made it; null: a hub''s first start.';
comment on column api_tokens.last_used_at is 'To the minute; null: never.';
