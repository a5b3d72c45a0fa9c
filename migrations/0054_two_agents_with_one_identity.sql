-- What it is called in the code: an identity conflict. The column keeps its name for hubs of before, which write it too, and
-- for the view `presences`: a second column would have to be written with it by two versions for as long.
comment on column sessions.rivalry is 'An identity conflict (core::session::identity_conflict): the agent before this one, how often the two took turns, and since when they are known to be two; null: there was none, or the cluster enrolled anew.';
