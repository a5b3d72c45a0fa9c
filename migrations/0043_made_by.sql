-- Plain files have no engine, and what this program itself makes of a target may be something else in another version, too.

comment on column renders.engine is 'What made it: the number of this program''s own part, and the versions of the render engine, of Helm and of Kustomize if they were asked. Without a number, or null: an earlier version, which is older than all numbers.';
