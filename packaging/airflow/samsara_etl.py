"""Airflow: one run a night, then a check that nothing is missing.

The program is installed on the workers (`pip install samsara-etl`), `/srv/samsara` holds `.env` and `credentials/`.
"""

from datetime import datetime, timedelta

from airflow import DAG

try:  # Airflow 3
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:  # Airflow 2
    from airflow.operators.bash import BashOperator

with DAG(
    dag_id="samsara_etl",
    schedule="15 2 * * *",
    start_date=datetime(2024, 1, 1),
    # The program itself knows what is missing; Airflow need not start it for past days.
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=15)},
) as dag:
    run = BashOperator(
        task_id="run",
        bash_command="samsara-etl run --wait",
        cwd="/srv/samsara",
        append_env=True,
        execution_timeout=timedelta(hours=6),
    )
    nothing_missing = BashOperator(
        task_id="nothing_missing",
        bash_command="samsara-etl status --missing --fail-on-missing",
        cwd="/srv/samsara",
        append_env=True,
        retries=0,
    )
    run >> nothing_missing
