package github

// fields says what event.data holds, from docs.github.com "Webhook events and payloads", and which types of events there
// are. Types that few rules read are listed without their bodies. Members that only some deliveries have stand beside the
// others: what is absent in one event is found when it is decided.
const fields = `
User = login id node_id avatar_url gravatar_id url html_url followers_url following_url gists_url starred_url
  subscriptions_url organizations_url repos_url events_url received_events_url type site_admin user_view_type name email
  deleted
Organization = login id node_id url html_url repos_url events_url hooks_url issues_url members_url public_members_url
  avatar_url description
Enterprise = id slug name node_id avatar_url description website_url html_url created_at updated_at
License = key name spdx_id url node_id
Repository = id node_id name full_name private owner:User html_url description fork url forks_url keys_url
  collaborators_url teams_url hooks_url issue_events_url events_url assignees_url branches_url tags_url blobs_url
  git_tags_url git_refs_url trees_url statuses_url languages_url stargazers_url contributors_url subscribers_url
  subscription_url commits_url git_commits_url comments_url issue_comment_url contents_url compare_url merges_url
  archive_url downloads_url issues_url pulls_url milestones_url notifications_url labels_url releases_url
  deployments_url created_at updated_at pushed_at git_url ssh_url clone_url svn_url homepage size stargazers_count
  watchers_count language has_issues has_projects has_downloads has_wiki has_pages has_discussions has_pull_requests
  forks_count mirror_url archived disabled open_issues_count license:License allow_forking is_template
  web_commit_signoff_required pull_request_creation_policy topics[] visibility forks open_issues watchers
  default_branch stargazers master_branch organization role_name public permissions* custom_properties*
  allow_squash_merge allow_merge_commit allow_rebase_merge allow_auto_merge allow_update_branch delete_branch_on_merge
  use_squash_pr_title_as_default squash_merge_commit_title squash_merge_commit_message merge_commit_title
  merge_commit_message code_of_conduct* subscribers_count network_count template_repository* anonymous_access_enabled
  temp_clone_token starred_at security_and_analysis*
Common = action sender:User repository:Repository organization:Organization installation{id node_id} enterprise:Enterprise
App = id slug node_id client_id owner:User name description external_url html_url created_at updated_at permissions* events[]
  installations_count
Person = name email username date
Commit = id tree_id distinct message timestamp url author:Person committer:Person added[] removed[] modified[]
HeadCommit = id tree_id message timestamp author:Person committer:Person head_commit*
Label = id node_id url name color default description
Milestone = url html_url labels_url id node_id number title description creator:User open_issues closed_issues state
  created_at updated_at due_on closed_at
Team = name id node_id slug description privacy notification_setting url html_url members_url repositories_url permission
  parent:Team deleted type organization_id enterprise_id
Reviewer = ...User ...Team
Reactions = url total_count +1 -1 laugh hooray confused heart rocket eyes
Href = href
BaseRef = label ref sha user:User repo:Repository
PullRequest = url id node_id html_url diff_url patch_url issue_url number state locked title user:User body created_at
  updated_at closed_at merged_at merge_commit_sha assignee:User assignees[]:User requested_reviewers[]:Reviewer
  requested_teams[]:Team labels[]:Label milestone:Milestone draft commits_url review_comments_url review_comment_url
  comments_url statuses_url head:BaseRef base:BaseRef author_association active_lock_reason
  auto_merge{enabled_by:User merge_method commit_title commit_message}
  _links{self:Href html:Href issue:Href comments:Href review_comments:Href review_comment:Href commits:Href statuses:Href}
  merged mergeable rebaseable mergeable_state merged_by:User comments review_comments maintainer_can_modify commits
  additions deletions changed_files allow_auto_merge allow_update_branch delete_branch_on_merge merge_commit_message
  merge_commit_title squash_merge_commit_message squash_merge_commit_title use_squash_pr_title_as_default
Issue = url repository_url labels_url comments_url events_url html_url id node_id number title user:User labels[]:Label
  state state_reason locked assignee:User assignees[]:User milestone:Milestone comments created_at updated_at closed_at
  author_association active_lock_reason draft body reactions:Reactions timeline_url performed_via_github_app:App
  pull_request{url html_url diff_url patch_url merged_at} repository:Repository
  type* sub_issues_summary* issue_dependencies_summary* issue_field_values* parent_issue_url pinned_comment*
Comment = url html_url issue_url id node_id user:User created_at updated_at author_association body
  performed_via_github_app:App reactions:Reactions pin*
ReviewComment = url pull_request_review_id id node_id diff_hunk path position original_position commit_id
  original_commit_id in_reply_to_id user:User body created_at updated_at html_url pull_request_url author_association
  _links{self:Href html:Href pull_request:Href} start_line original_start_line start_side line original_line side
  reactions:Reactions subject_type
Review = id node_id user:User body commit_id submitted_at updated_at state html_url pull_request_url author_association
  _links{html:Href pull_request:Href}
PullRef = url id number head{ref sha repo{id url name}} base{ref sha repo{id url name}}
Deployment = url id node_id sha ref task payload* original_environment environment description creator:User created_at
  updated_at statuses_url repository_url transient_environment production_environment performed_via_github_app:App
Suite = id node_id head_branch head_sha status conclusion url before after pull_requests[]:PullRef app:App created_at
  updated_at deployment:Deployment rerequestable runs_rerequestable latest_check_runs_count check_runs_url
  head_commit:HeadCommit
CheckRun = id node_id name head_sha external_id url html_url details_url status conclusion started_at completed_at
  output{title summary text annotations_count annotations_url} check_suite:Suite app:App pull_requests[]:PullRef
  deployment:Deployment name check_runs_url
Run = id name node_id check_suite_id check_suite_node_id head_branch head_sha path display_title run_number event status
  conclusion workflow_id url html_url pull_requests[]:PullRef created_at updated_at actor:User run_attempt
  referenced_workflows[]{path sha ref} run_started_at triggering_actor:User jobs_url logs_url check_suite_url
  artifacts_url cancel_url rerun_url previous_attempt_url workflow_url head_commit:HeadCommit repository:Repository
  head_repository:Repository head_repository_id
Workflow = id node_id name path state created_at updated_at url html_url badge_url conclusion
Job = id run_id workflow_name head_branch run_url run_attempt node_id head_sha url html_url status conclusion created_at
  started_at completed_at name steps[]{name status conclusion number started_at completed_at} check_run_url labels[]
  runner_id runner_name runner_group_id runner_group_name
Asset = url id node_id name label uploader:User content_type state size digest download_count created_at updated_at
  browser_download_url
Release = url assets_url upload_url html_url id author:User node_id tag_name target_commitish name draft prerelease immutable
  created_at updated_at published_at assets[]:Asset tarball_url zipball_url body discussion_url mentions_count reactions:Reactions
  short_description_html is_short_description_html_truncated body_html body_text
GitCommit = author:Person committer:Person message tree{sha url} url comment_count
  verification{verified reason signature payload verified_at}
Package = id name namespace description ecosystem package_type html_url created_at updated_at owner:User package_version*
  registry*
Discussion = repository_url category* answer_html_url answer_chosen_at answer_chosen_by:User html_url id node_id number
  title user:User state state_reason locked comments created_at updated_at author_association active_lock_reason body
  reactions:Reactions timeline_url labels[]:Label

push = @git ...Common ref before after created deleted forced base_ref compare commits[]:Commit head_commit:Commit
  pusher:Person size distinct_size
create delete = @git ...Common ref ref_type master_branch description pusher_type
PullRequestEvent = @git @pullRequest ...Common number pull_request:PullRequest
pull_request pull_request_target = ...PullRequestEvent assignee:User label:Label milestone:Milestone before after reason
  requested_reviewer:User requested_team:Team
  changes{title{from} body{from} base{ref{from} sha{from}}}
pull_request_review = ...PullRequestEvent review:Review changes{body{from}}
pull_request_review_comment = ...PullRequestEvent comment:ReviewComment review:Review changes{body{from}}
pull_request_review_thread = ...PullRequestEvent thread{node_id comments[]:ReviewComment} updated_at
issue_comment = @git @pullRequest ...Common issue:Issue comment:Comment changes{body{from}}
issues = @git ...Common issue:Issue assignee:User label:Label milestone:Milestone type*
  changes{title{from} body{from} old_issue:Issue old_repository:Repository new_issue:Issue new_repository:Repository}
release = @git ...Common release:Release changes{body{from} name{from} tag_name{from} make_latest{to}}
check_run = @git ...Common check_run:CheckRun requested_action{identifier}
check_suite = @git ...Common check_suite:Suite actions_meta*
status = @git ...Common id sha name target_url avatar_url context description state created_at updated_at
  commit{sha node_id commit:GitCommit url html_url comments_url author:User committer:User parents[]{sha url html_url}}
  branches[]{name commit{sha url} protected}
workflow_run = @git ...Common workflow_run:Run workflow:Workflow
workflow_job = @git ...Common workflow_job:Job deployment:Deployment workflow
workflow_dispatch = @git ...Common ref workflow inputs*
deployment = @git ...Common deployment:Deployment workflow:Workflow workflow_run:Run
deployment_status = @git ...Common deployment:Deployment workflow:Workflow workflow_run:Run check_run:CheckRun
  deployment_status{url id node_id state creator:User description environment target_url created_at updated_at
  deployment_url repository_url environment_url log_url performed_via_github_app:App}
merge_group = @git ...Common reason merge_group{head_sha head_ref base_ref base_sha head_commit:HeadCommit}
repository_dispatch = @git ...Common branch client_payload*
commit_comment = @git ...Common comment{url html_url id node_id user:User position line path commit_id created_at updated_at
  author_association body reactions:Reactions}
page_build = @git ...Common id build{url status error{message} pusher:User commit duration created_at updated_at}
package = @git ...Common package:Package
registry_package = @git ...Common registry_package:Package
repository = @git ...Common changes*
fork = @git ...Common forkee:Repository
public = @git ...Common
watch star = @git ...Common starred_at
label = @git ...Common label:Label changes*
milestone = @git ...Common milestone:Milestone changes*
gollum = @git ...Common pages[]{page_name title summary action sha html_url}
member = @git ...Common member:User changes*
discussion = @git ...Common discussion:Discussion answer* old_answer* label:Label changes*
discussion_comment = @git ...Common discussion:Discussion comment* changes*

branch_protection_configuration branch_protection_rule code_scanning_alert custom_property custom_property_values
  dependabot_alert deploy_key deployment_protection_rule deployment_review github_app_authorization installation
  installation_repositories installation_target issue_dependencies marketplace_purchase membership meta org_block
  organization personal_access_token_request ping project project_card project_column projects_v2 projects_v2_item
  projects_v2_status_update repository_advisory repository_import repository_ruleset repository_vulnerability_alert
  secret_scanning_alert secret_scanning_alert_location secret_scanning_scan security_advisory security_and_analysis
  sponsorship sub_issues team team_add exemption_request_push_ruleset dismissal_request_code_scanning
  dismissal_request_dependabot dismissal_request_secret_scanning bypass_request_push_ruleset
  bypass_request_secret_scanning = @git *
`
