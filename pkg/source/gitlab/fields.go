package gitlab

// fields says what event.data holds, from docs.gitlab.com "Webhook events" and "System hooks". Types that few rules read
// are listed without their bodies.
//
//nolint:misspell // noteable is GitLab's word
const fields = `
User = id name username avatar_url email
Project = id name description web_url avatar_url git_ssh_url git_http_url namespace visibility_level path_with_namespace
  default_branch ci_config_path homepage url ssh_url http_url
Repository = name url description homepage git_http_url git_ssh_url visibility_level
Common = object_kind event_type event_name project:Project repository:Repository user:User
Person = name email
Label = id title color project_id created_at updated_at template description type group_id
LastCommit = id message title timestamp url author:Person
Commit = id message title timestamp url author:Person added[] modified[] removed[]
MergeRequest = id iid action title description state state_id created_at updated_at deleted_at prepared_at url
  author_id assignee_id assignee_ids[] assignee:User reviewer_ids[] milestone_id labels[]:Label
  source:Project target:Project source_branch target_branch source_project_id target_project_id last_commit:LastCommit
  merge_status detailed_merge_status merge_error merge_params* merge_user_id merge_commit_sha merge_jid
  merge_when_pipeline_succeeds merge_when_build_succeeds in_progress_merge_commit_sha rebase_commit_sha ref_fetched
  squash squash_commit_sha oldrev work_in_progress draft first_contribution blocking_discussions_resolved
  head_pipeline_id last_edited_at last_edited_by_id updated_by_id lock_version locked_at position*
  approvals_before_merge approval_rules[]* system system_action actioned_at allow_maintainer_to_push
  time_estimate time_change total_time_spent human_time_estimate human_time_change human_total_time_spent
  discussion_locked
Issue = id iid action title description state state_id created_at updated_at deleted_at closed_at url author_id
  assignee_id assignee_ids[] milestone_id labels[]:Label project_id branch_name confidential discussion_locked due_date
  duplicated_to_id moved_to_id last_edited_at last_edited_by_id updated_by_id closed_by_id relative_position severity
  weight health_status escalation_status escalation_policy* position* original_position* change_position* type
  customer_relations_contacts[]* status* custom_status* lock_version
  time_estimate time_change total_time_spent human_time_estimate human_time_change human_total_time_spent
PipelineRef = id iid title source_branch source_project_id target_branch target_project_id state merge_status
  detailed_merge_status url
Runner = id description runner_type active is_shared tags[]

push tag_push = @git ...Common before after ref ref_protected checkout_sha message user_id user_name user_username
  user_email user_avatar project_id commits[]:Commit total_commits_count push_options*
repository_update = @git ...Common project_id user_id user_name user_email user_avatar changes[]{before after ref} refs[]
merge_request = @git @pullRequest ...Common object_attributes:MergeRequest labels[]:Label changes* assignee:User
  assignees[]:User reviewers[]{id name username avatar_url email state re_requested}
issue work_item = @git ...Common object_attributes:Issue labels[]:Label changes* assignee:User assignees[]:User
note = @git @pullRequest ...Common project_id commit:LastCommit merge_request:MergeRequest issue:Issue snippet*
  object_attributes{id internal note noteable_type author_id created_at updated_at updated_by_id project_id attachment
  line_code commit_id noteable_id system st_diff* action url description discussion_id type position* original_position*
  change_position* resolved_at resolved_by_id resolved_by_push}
pipeline = @git @pullRequest ...Common commit:LastCommit merge_request:PipelineRef
  source_pipeline{job_id pipeline_id project{id web_url path_with_namespace}}
  object_attributes{id iid name ref tag sha before_sha source status detailed_status stages[] created_at finished_at
  duration queued_duration protected_ref variables[]{key value} url}
  builds[]{id stage name status created_at started_at finished_at duration queued_duration failure_reason when manual
  allow_failure user:User runner:Runner artifacts_file{filename size} environment{name action deployment_tier}}
job = @git ...Common ref tag before_sha sha build_id build_name build_stage build_status build_created_at
  build_started_at build_finished_at build_created_at_iso build_started_at_iso build_finished_at_iso build_duration
  build_queued_duration build_allow_failure build_failure_reason retries_count pipeline_id project_id project_name
  commit{id name sha message author_name author_email author_url status duration started_at finished_at started_at_iso finished_at_iso}
  runner:Runner environment{name action deployment_tier} source_pipeline{job_id pipeline_id project{id web_url path_with_namespace}}
deployment = @git ...Common status status_changed_at deployment_id deployable_id deployable_url environment
  environment_tier environment_slug environment_external_url short_sha user_url commit_url commit_title ref
release = @git ...Common id created_at description name released_at tag url action
  assets{count links[]{id external link_type name url} sources[]{format url}} commit:LastCommit
wiki_page = @git ...Common wiki{web_url git_ssh_url git_http_url path_with_namespace default_branch}
  object_attributes{slug title format message action content url version_id diff_url}
feature_flag = @git ...Common user_url object_attributes{id name description active}
milestone = @git ...Common action object_attributes{id iid title description state created_at updated_at due_date start_date
  project_id group_id}

emoji access_token vulnerability member subgroup = @git @pullRequest *
project_create project_destroy project_rename project_transfer project_update user_add_to_team user_remove_from_team
  user_update_for_team user_create user_destroy user_failed_login user_rename key_create key_destroy group_create
  group_destroy group_rename user_add_to_group user_remove_from_group user_update_for_group subgroup_create
  subgroup_destroy user_access_request_to_group user_access_request_denied_for_group user_access_request_revoked_for_group
  user_access_request_to_project user_access_request_denied_for_project user_access_request_revoked_for_project
  gitlab_subscription_member_approval gitlab_subscription_member_approvals gitlab_patch_update = @git *
`
