with handed as (select attempt_id, case when json_valid(result) then json_extract(result, '$.claim') end said from attempts)
  select 'claims', said, 'an attempt handed this over, but the claim is gone: it might be sent twice' from handed
  where said <> '' and said not in (select key from claims)
  union select 'claims', key, 'its attempt handed something else over' from claims join handed using (attempt_id)
  where said <> key;
select 'replies', session || ' ' || seq, 'no attempt of its session is left (or merged from a run under way: merge it again)' from replies
  where session not in (select session from attempts);
select 'runs', id, 'attempts of this run were taken away' from runs
  where case when json_valid(facts) then json_extract(facts, '$.attempts') end
  > (select count(*) from attempts where run = id);
select 'replies', session, 'of ' || (max(seq) + 1) || ' replies ' || count(*) || ' are left' from replies
  group by session having count(*) <= max(seq);
select 'replies', attempt_id, 'the reply that decided this attempt was taken away' from
  (select attempt_id, session, result from attempts where state = 'final' and json_valid(result)) decided
  where json_extract(result, '$.outcome') in ('accepted', 'passed', 'deferred', 'rejected')
  and json_extract(result, '$.code') not in (select ifnull(code, -1) from replies r where r.session = decided.session);
select distinct 'runs', run, 'attempts of this run are left, the run was taken away' from attempts where run not in (select id from runs);
select 'runs', id, 'its facts cannot be read: changed after they were written' from runs where not json_valid(facts);
