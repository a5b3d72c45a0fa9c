-- Who signed a revision, where its repo names keys. Whether that is enough is asked whenever it is rolled out.

alter table revisions
    add column verified jsonb;
comment on column revisions.verified is 'The keys by which it was found signed, by what they signed: {"commit": …, "tag": …, "artifact": …}. Null: nobody looked, or none of the repo''s keys has. Written again when the repo''s keys change.';
