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
