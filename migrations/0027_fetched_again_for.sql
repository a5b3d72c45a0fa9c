-- What is found when a repo is fetched again belongs to the webhook or the person that it is fetched again for.

alter table repo_fetch_status add column fetched_again_for text;
comment on column repo_fetch_status.fetched_again_for is 'Trace id of the signal that nothing was found for yet; null: there is none, or it came before this was kept.';
