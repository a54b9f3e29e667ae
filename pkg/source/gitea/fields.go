package gitea

// fields says what event.data holds, from go-gitea/gitea modules/structs (hook.go, pull.go, issue.go, repo.go) and
// Forgejo's, which has some members more. Types that few rules read are listed without their bodies.
const fields = `
User = id login login_name source_id full_name email avatar_url html_url language is_admin last_login created restricted
  active prohibit_login location website description pronouns visibility followers_count following_count starred_repos_count
  username name permissions*
Repository = id owner:User name full_name description empty private fork template parent:Repository mirror size language
  languages_url html_url url link ssh_url clone_url original_url website stars_count forks_count watchers_count
  watchers open_issues_count open_pr_counter release_counter default_branch archived created_at updated_at archived_at permissions* has_code
  has_issues internal_tracker* external_tracker* has_wiki external_wiki* wiki_branch globally_editable_wiki
  has_pull_requests has_projects projects_mode has_releases has_packages has_actions ignore_whitespace_conflicts
  allow_merge_commits allow_rebase allow_rebase_explicit allow_squash_merge allow_fast_forward_only_merge
  allow_rebase_update allow_manual_merge autodetect_manual_merge default_delete_branch_after_merge default_merge_style
  default_update_style default_allow_maintainer_edit avatar_url internal mirror_interval mirror_updated
  object_format_name repo_transfer* topics[] licenses[] branch_count
Common = action secret sender:User repository:Repository organization:User
Person = name email username
Commit = id message url author:Person committer:Person verification* timestamp added[] removed[] modified[]
Label = id name exclusive is_archived color description url
Milestone = id title description state open_issues closed_issues created_at updated_at closed_at due_on
Team = id name description organization* includes_all_repositories permission units[] units_map* can_create_org_repo
BaseRef = label ref sha repo_id repo:Repository
PullRequest = id url number user:User title body labels[]:Label milestone:Milestone assignee:User assignees[]:User
  requested_reviewers[]:User requested_reviewers_teams[]:Team state draft is_locked comments review_comments additions
  deletions changed_files html_url diff_url patch_url mergeable merged merged_at merge_commit_sha merged_by:User
  allow_maintainer_edit base:BaseRef head:BaseRef merge_base due_date created_at updated_at closed_at pin_order flow
  content_version
Issue = id url html_url number user:User original_author original_author_id title body ref assets[]* labels[]:Label
  milestone:Milestone assignee:User assignees[]:User state is_locked comments created_at updated_at closed_at due_date
  time_estimate pull_request{merged merged_at draft html_url} repository{id name owner full_name} pin_order content_version
Comment = id html_url pull_request_url issue_url user:User original_author original_author_id body assets[]* created_at
  updated_at
Changes = changes{title{from} body{from} ref{from} added_labels[]:Label removed_labels[]:Label}

push = @git ...Common ref before after compare_url commits[]:Commit total_commits head_commit:Commit pusher:User
create delete = @git ...Common sha ref ref_type default_branch pusher_type
pull_request pull_request_assign pull_request_label pull_request_milestone pull_request_review_request
  pull_request_sync pull_request_review pull_request_approved pull_request_rejected pull_request_review_approved
  pull_request_review_rejected pull_request_review_comment = @git @pullRequest ...Common ...Changes number
  pull_request:PullRequest requested_reviewer:User requested_reviewer_team:Team commit_id review{type content} label:Label
  comment:Comment issue:Issue is_pull
issue_comment pull_request_comment = @git @pullRequest ...Common ...Changes issue:Issue pull_request:PullRequest
  comment:Comment is_pull number commit_id review{type content} requested_reviewer:User
issues issue_assign issue_label issue_milestone = @git ...Common ...Changes number index issue:Issue commit_id label:Label
release = @git ...Common release{id tag_name target_commitish name body url html_url tarball_url zipball_url upload_url
  hide_archive_links draft prerelease created_at published_at author:User assets[]{id name size download_count
  created_at uuid browser_download_url type} archive_download_count*}
repository = @git ...Common
fork = @git ...Common forkee:Repository
wiki = @git ...Common page comment
package = @git ...Common package*
status = @git ...Common sha commit* context created_at description id name state target_url updated_at
workflow_run = @git ...Common workflow_run* workflow*
workflow_job = @git ...Common workflow_job*
action_run_failure action_run_recover action_run_success schedule workflow_dispatch repository_dispatch = @git *
`
